/** ONNX Runtime in WebAssembly, or on the GPU: one of two builds, loaded when it is asked for. */

import type * as Ort from "onnxruntime-web/wasm";
import wasmUrl from "onnxruntime-web/ort-wasm-simd-threaded.wasm?url";
import wasmModule from "onnxruntime-web/ort-wasm-simd-threaded.mjs?url";
import gpuWasmUrl from "onnxruntime-web/ort-wasm-simd-threaded.asyncify.wasm?url";
import gpuModule from "onnxruntime-web/ort-wasm-simd-threaded.asyncify.mjs?url";

import { fetchFile } from "./files";
import type { BundleFile, Variant } from "./manifest";

export type Backend = "wasm" | "webgpu";
export type Session = Ort.InferenceSession;

/** What a browser can use: threads need a page of its own origin alone. */
export function defaultThreads(): number {
  return crossOriginIsolated ? Math.max(1, Math.min(4, navigator.hardwareConcurrency)) : 1;
}

export class Runtime {
  private readonly files = new Map<string, Promise<Uint8Array<ArrayBuffer>>>();

  private constructor(
    private readonly ort: typeof Ort,
    private readonly backend: Backend,
    private readonly base: string,
  ) {}

  /** `base`: the address that the bundle is relative to. */
  static async open(backend: Backend, threads: number, base: string): Promise<Runtime> {
    const ort: typeof Ort =
      backend === "webgpu" ? await import("onnxruntime-web/webgpu") : await import("onnxruntime-web/wasm");
    ort.env.wasm.numThreads = threads;
    const [mjs, wasm] = backend === "webgpu" ? [gpuModule, gpuWasmUrl] : [wasmModule, wasmUrl];
    ort.env.wasm.wasmPaths = { mjs: new URL(mjs, base).href, wasm: new URL(wasm, base).href };
    ort.env.logLevel = "error";
    return new Runtime(ort, backend, base);
  }

  get version(): string {
    return this.ort.env.versions.web ?? "unknown";
  }

  async session(variant: Variant): Promise<Session> {
    const content = await this.fileOnce(variant.file);
    const externalData = await Promise.all(
      variant.weights.map(async (file) => ({ path: file.path.split("/").pop()!, data: await this.fileOnce(file) })),
    );
    return this.ort.InferenceSession.create(content, {
      executionProviders: [this.backend],
      externalData,
      graphOptimizationLevel: "all",
      // Errors alone: that shapes are computed on the CPU beside WebGPU is as it should be.
      logSeverityLevel: 3,
    });
  }

  /** The files of a model, so that making its session waits for no network. */
  async fetchAll(variant: Variant): Promise<void> {
    await Promise.all([variant.file, ...variant.weights].map((file) => this.fileOnce(file)));
  }

  private fileOnce(file: BundleFile): Promise<Uint8Array<ArrayBuffer>> {
    const found = this.files.get(file.path) ?? fetchFile(this.base, file);
    this.files.set(file.path, found);
    return found;
  }

  /** The files that several sessions were made of; they hold copies. */
  letFilesGo(): void {
    this.files.clear();
  }

  /** `frame`: uint8 `[H, W, 3]`, or float32 `[3, H, W]` for `tensor` input. */
  input(variant: Variant, frame: Uint8Array | Float32Array): Ort.Tensor {
    const { height, width } = variant.size;
    return frame instanceof Uint8Array
      ? new this.ort.Tensor("uint8", frame, [1, height, width, 3])
      : new this.ort.Tensor("float32", frame, [1, 3, height, width]);
  }
}
