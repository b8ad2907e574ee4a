import tseslint from "typescript-eslint";

export default tseslint.config(
  { ignores: ["node_modules", "dist"] },
  ...tseslint.configs.strict,
  {
    // Typed arrays are indexed within their bounds, which the language cannot say.
    rules: { "@typescript-eslint/no-non-null-assertion": "off" },
  },
);
