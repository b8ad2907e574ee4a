/** A manifest may say anything. */

import { describe, expect, it } from "vitest";

import { addressOf } from "../src/files";
import { bundleFrom } from "../src/manifest";

const DIGEST = "ab".repeat(32);

function manifest(changes: Record<string, unknown> = {}, artifact: Record<string, unknown> = {}) {
  return {
    schema_version: 1,
    checkpoint: { name: "tiny", config: { patch_size: 8 } },
    preprocessing: {
      resize: "crop",
      crop_ratio: 1,
      orientation: "exif",
      color: "rgb",
      background: [0, 0, 0],
      interpolation: "bicubic-antialiased",
      padding: [124, 116, 104],
      mean: [0.485, 0.456, 0.406],
      std: [0.229, 0.224, 0.225],
    },
    artifacts: [
      {
        path: "models/a b.onnx",
        format: "onnx",
        core_count: 8,
        precision: "int8",
        image_size: [32, 48],
        batch: 1,
        input: "image",
        outputs: ["cls"],
        sha256: DIGEST,
        ...artifact,
      },
    ],
    labels: null,
    files: { "models/weights.bin": DIGEST, "recipe.safetensors": DIGEST, "golden/x.bin": DIGEST },
    ...changes,
  };
}

describe("a manifest", () => {
  it("says which files a model is made of", () => {
    const [variant] = bundleFrom(manifest()).variants;
    expect(variant.weights.map((file) => file.path)).toEqual(["models/weights.bin"]);
    expect(variant.size).toEqual({ height: 32, width: 48 });
    expect(addressOf(variant.file)).toBe(`bundle/models/a%20b.onnx?sha256=${DIGEST}`);
  });

  it.each([
    [{ schema_version: 2 }, /schema version 2/],
    [{ artifacts: [] }, /no ONNX files/],
    [{ preprocessing: { ...manifest().preprocessing, interpolation: "lanczos" } }, /interpolation = lanczos/],
    [{ preprocessing: { ...manifest().preprocessing, crop_ratio: 2 } }, /crop_ratio = 2/],
    [{ checkpoint: null }, /can't be read/],
    [{ labels: [1] }, /labels can't be read/],
  ])("that is wrong is refused: %o", (changes, message) => {
    expect(() => bundleFrom(manifest(changes))).toThrow(message);
  });

  it.each([
    [{ path: "../outside.onnx" }, /path/],
    [{ path: "/etc/passwd" }, /path/],
    [{ path: "https://elsewhere/x.onnx" }, /path/],
    [{ sha256: "x" }, /digest/],
    [{ batch: 4 }, /4 images a call/],
    [{ core_count: 0 }, /core_count/],
  ])("whose model is wrong is refused: %o", (artifact, message) => {
    expect(() => bundleFrom(manifest({}, artifact))).toThrow(message);
  });

  it("of version 0.1 had one way to prepare images", () => {
    const { mean, std, orientation, color, background } = manifest().preprocessing;
    const first = { crop: "center", resize: "bicubic-antialiased", mean, std, orientation, color, background };
    expect(bundleFrom(manifest({ preprocessing: first })).preprocessing).toMatchObject({
      resize: "crop",
      cropRatio: 1,
      interpolation: "bicubic-antialiased",
    });
  });
});
