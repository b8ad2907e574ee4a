/** A worker that measures one model and ends with it, so that the next one's load is cold. */

import { EdgeError, told } from "./errors";
import { fetchBundle } from "./files";
import type { Variant } from "./manifest";
import { percentile } from "./patches";
import { Runtime, type Session } from "./runtime";
import type { Answer, FromSampler, Turn, Window } from "./turn";

const scope = self as unknown as DedicatedWorkerGlobalScope;
const LEAST_SAMPLES = 3;

// The heaps that ONNX Runtime makes: they grow and never shrink, so that their size in the end is their peak.
const heaps: { memory: WebAssembly.Memory; initial: number }[] = [];
const Memory = WebAssembly.Memory;
WebAssembly.Memory = class extends Memory {
  constructor(descriptor: WebAssembly.MemoryDescriptor) {
    super(descriptor);
    heaps.push({ memory: this, initial: this.buffer.byteLength });
  }
};

scope.onmessage = (event: MessageEvent<{ turn: Turn; base: string }>) => {
  const say = (message: FromSampler) => scope.postMessage(message);
  measure(event.data.turn, event.data.base).then(
    (answer) => say({ answer }),
    (error: unknown) => say({ message: told(error).message }),
  );
};

type Input = ReturnType<Runtime["input"]>;

async function measure(turn: Turn, base: string): Promise<Answer> {
  const bundle = await fetchBundle(base);
  const variant = bundle.variants.find((v) => v.file.path === turn.path);
  if (!variant) throw new EdgeError(`The bundle has no ${turn.path}.`, "Profile again.");
  const frames = await fetchFrames(base, turn.frames, variant);
  const runtime = await Runtime.open("wasm", turn.threads, base);
  // What the network takes is no part of what is measured.
  await runtime.fetchAll(variant);

  const start = performance.now();
  const session = await runtime.session(variant);
  const load_ms = performance.now() - start;
  runtime.letFilesGo();
  const inputs = frames.map((frame) => runtime.input(variant, frame));
  const first_ms = await timed(session, inputs[0]);
  await sample(session, inputs, turn.warmup_seconds, 1, turn.warmup_seconds);
  const isLong = turn.sustained_seconds > 0;
  const windows = isLong ? await sustain(session, inputs, turn.sustained_seconds) : [];
  const samples_ms = isLong ? [] : await sample(session, inputs, turn.seconds, turn.samples, turn.most_seconds);
  const idle_memory_bytes = heaps.reduce((sum, heap) => sum + heap.initial, 0);
  const peak = heaps.reduce((sum, heap) => sum + heap.memory.buffer.byteLength, 0);
  if (!heaps.length) throw new EdgeError("The runtime's memory was not found.", "Use another browser.");
  return { load_ms, first_ms, idle_memory_bytes, peak_memory_bytes: peak - idle_memory_bytes, samples_ms, windows };
}

async function fetchFrames(base: string, name: string, variant: Variant): Promise<(Uint8Array | Float32Array)[]> {
  const response = await fetch(new URL(`measure/frames/${name}`, base));
  if (!response.ok) throw new EdgeError(`The frames can't be loaded: ${response.status}.`, "Profile again.");
  const content = await response.arrayBuffer();
  const values = variant.input === "image" ? new Uint8Array(content) : new Float32Array(content);
  const each = variant.size.height * variant.size.width * 3;
  return Array.from({ length: values.length / each }, (_, i) => values.slice(i * each, (i + 1) * each));
}

async function timed(session: Session, input: Input): Promise<number> {
  const start = performance.now();
  const made = await session.run({ [session.inputNames[0]]: input });
  const taken = performance.now() - start;
  for (const tensor of Object.values(made)) tensor.dispose();
  return taken;
}

/** Calls until both are reached, or `mostSeconds` are over and three calls made. */
async function sample(session: Session, inputs: Input[], seconds: number, count: number, mostSeconds: number) {
  const samples: number[] = [];
  const start = performance.now();
  for (;;) {
    samples.push(await timed(session, inputs[samples.length % inputs.length]));
    const elapsed = (performance.now() - start) / 1000;
    if (elapsed >= seconds && samples.length >= count) return samples;
    if (elapsed >= mostSeconds && samples.length >= Math.min(LEAST_SAMPLES, count)) return samples;
  }
}

/** Calls without a pause; one window a second. */
async function sustain(session: Session, inputs: Input[], seconds: number): Promise<Window[]> {
  const windows: Window[] = [];
  const start = performance.now();
  let since = start;
  let samples: number[] = [];
  for (let i = 0; ; i++) {
    samples.push(await timed(session, inputs[i % inputs.length]));
    const now = performance.now();
    const elapsed = (now - start) / 1000;
    if (now - since < 1000 && elapsed < seconds) continue;
    windows.push([elapsed, samples.length, percentile(samples, 50), percentile(samples, 95), Math.max(...samples)]);
    if (elapsed >= seconds) return windows;
    samples = [];
    since = now;
  }
}
