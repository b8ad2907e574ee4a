import { createHash } from "node:crypto";
import { readdirSync, readFileSync, rmSync, writeFileSync, copyFileSync } from "node:fs";
import { join, relative } from "node:path";
import { gzipSync } from "node:zlib";
import { build, defaultClientConditions, defineConfig, type Plugin } from "vite";

// VECA_EDGE_WEB_OUT: where the test that compares the committed build has it built.
const OUT = process.env.VECA_EDGE_WEB_OUT ?? join(import.meta.dirname, "../veca_edge/serving/web");

function filesOf(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)).replaceAll("\\", "/"))
    .sort();
}

function versionOf(name: string): string {
  const content = readFileSync(join(import.meta.dirname, "node_modules", name, "package.json"), "utf8");
  return (JSON.parse(content) as { version: string }).version;
}

/** The service worker with the list of what it keeps, the licences, and WebAssembly a quarter of its size. */
function finished(): Plugin {
  return {
    name: "veca-edge-finished",
    apply: "build",
    async closeBundle() {
      copyFileSync(join(import.meta.dirname, "licenses.txt"), join(OUT, "licenses.txt"));
      const files = filesOf(OUT);
      const digest = createHash("sha256");
      for (const file of files) digest.update(file).update(readFileSync(join(OUT, file)));
      // WebGPU's runtime is kept once it was used: it is twice as large as the rest together.
      const kept = files.filter((file) => !file.includes("asyncify") && !["sw.js", "measure.html"].includes(file));
      await build({
        configFile: false,
        logLevel: "warn",
        define: {
          PAGE_FILES: JSON.stringify(kept),
          PAGE_VERSION: JSON.stringify(digest.digest("hex").slice(0, 12)),
        },
        build: {
          outDir: OUT,
          emptyOutDir: false,
          copyPublicDir: false,
          lib: { entry: join(import.meta.dirname, "src/sw.ts"), formats: ["es"], fileName: () => "sw.js" },
        },
      });
      for (const file of files.filter((name) => name.endsWith(".wasm"))) {
        const path = join(OUT, file);
        writeFileSync(`${path}.gz`, gzipSync(readFileSync(path), { level: 9 }));
        rmSync(path);
      }
    },
  };
}

export default defineConfig({
  base: "./",
  resolve: {
    // ONNX Runtime with its WebAssembly and its threads' module as files of their own, not inside of our chunks.
    conditions: ["onnxruntime-web-use-extern-wasm", ...defaultClientConditions],
  },
  define: { RUNTIME_VERSION: JSON.stringify(versionOf("onnxruntime-web")) },
  worker: { format: "es" },
  build: {
    outDir: OUT,
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rollupOptions: { input: ["index.html", "measure.html"].map((name) => join(import.meta.dirname, name)) },
    chunkSizeWarningLimit: 1000,
  },
  plugins: [finished()],
  test: { include: ["tests/**/*.test.ts"] },
} as Parameters<typeof defineConfig>[0]);
