/** A bundle's core counts, all of them loaded, so that switching between two frames costs nothing. */

import { EdgeError } from "./errors";
import type { Size } from "./geometry";
import { Governor, type Before, type Budgets, type Decision } from "./governor";
import type { Bundle, Variant } from "./manifest";
import { normalised, prepare } from "./preprocessing";
import type { Picture } from "./resample";
import { Runtime, type Session } from "./runtime";

/** One output, without the batch axis. */
export interface Values {
  dims: number[];
  data: Float32Array | Int32Array;
}

export interface Run {
  coreCount: number;
  prepareMs: number;
  modelMs: number;
  /** The picture as the model sees it: RGB `[height, width, 3]`. */
  frame: Uint8Array;
  outputs: Record<string, Values>;
  decision: Decision | null;
}

interface Loaded {
  variant: Variant;
  session: Session;
}

/** Calls of each core count when it is loaded; the last says what it takes. */
const WARM_CALLS = 3;

export class Model {
  private governor: Governor | null = null;
  private decided: Decision | undefined;
  private readonly loaded = new Map<number, Loaded>();
  private readonly expectedMs = new Map<number, number>();

  private constructor(
    readonly bundle: Bundle,
    private readonly runtime: Runtime,
    /** Most cores first. */
    private readonly variants: readonly Variant[],
    private coreCount: number,
  ) {}

  /** Answers frames with its largest core count; `loadNext` brings the rest. `variants`: of one precision and size. */
  static async open(bundle: Bundle, variants: readonly Variant[], runtime: Runtime): Promise<Model> {
    if (!variants.length) throw new EdgeError("The bundle has no such model.", "Choose another precision or size.");
    const ordered = [...variants].sort((a, b) => b.coreCount - a.coreCount);
    const model = new Model(bundle, runtime, ordered, ordered[0].coreCount);
    await model.load(ordered[0]);
    return model;
  }

  /** How many core counts there are, loaded or not. */
  get total(): number {
    return this.variants.length;
  }

  /** Whether all of them are loaded, and warm. */
  get isReady(): boolean {
    return this.expectedMs.size === this.total;
  }

  /** The next core count, the largest first: loads it, which the first one is already, and warms it up, so that a
   * budget knows what it takes. */
  async loadNext(): Promise<void> {
    if (!this.isReady) {
      const next = this.variants[this.expectedMs.size];
      const { variant, session } = this.loaded.get(next.coreCount) ?? (await this.load(next));
      this.expectedMs.set(variant.coreCount, await warmMs(this.runtime, variant, session));
    }
    if (this.isReady) this.runtime.letFilesGo();
  }

  private async load(variant: Variant): Promise<Loaded> {
    const loaded = { variant, session: await this.runtime.session(variant) };
    this.loaded.set(variant.coreCount, loaded);
    return loaded;
  }

  /** That are loaded, ascending. */
  get coreCounts(): number[] {
    return [...this.loaded.keys()].sort((a, b) => a - b);
  }

  get size(): Size {
    return this.loaded.get(this.coreCount)!.variant.size;
  }

  get outputs(): string[] {
    return this.loaded.get(this.coreCount)!.variant.outputs;
  }

  /** A fixed core count, or budgets that the governor holds from the current one on. */
  steer(coreCount: number, budgets: Budgets): void {
    if (!this.loaded.has(coreCount))
      throw new EdgeError(`There is no model of ${coreCount} cores.`, `There are: ${this.coreCounts.join(", ")}.`);
    if (budgets.modelMs === null && budgets.frameMs === null) {
      this.governor = null;
      this.coreCount = coreCount;
    } else if (!this.governor?.holds(budgets)) {
      this.governor = new Governor(this.expectedMs, budgets, this.coreCount);
    }
  }

  /** `before`: what the frame took since it was captured. */
  async run(picture: Picture, before: Before): Promise<Run> {
    const { variant, session } = this.loaded.get(this.coreCount)!;
    const start = performance.now();
    const frame = prepare(picture, variant.size, this.bundle.preprocessing);
    const given = variant.input === "image" ? frame : normalised(frame, this.bundle.preprocessing);
    const input = this.runtime.input(variant, given);
    const prepared = performance.now();
    const made = await session.run({ [session.inputNames[0]]: input });
    const after = performance.now();
    const modelMs = after - prepared;
    const prepareMs = prepared - start;
    const coreCount = variant.coreCount;
    let decision: Decision | null = null;
    if (this.governor) {
      this.coreCount = this.governor.observe(coreCount, modelMs, after / 1000, { ...before, preparing: prepareMs });
      const latest = this.governor.log[this.governor.log.length - 1];
      if (latest !== this.decided) decision = latest;
      this.decided = latest;
    }
    const outputs: Record<string, Values> = {};
    for (const name of variant.outputs) {
      const tensor = made[name];
      outputs[name] = { dims: tensor.dims.slice(1), data: numbers(tensor.data) };
      tensor.dispose();
    }
    return { coreCount, prepareMs, modelMs, frame, outputs, decision };
  }

  async close(): Promise<void> {
    for (const { session } of this.loaded.values()) await session.release();
    this.loaded.clear();
  }
}

async function warmMs(runtime: Runtime, variant: Variant, session: Session): Promise<number> {
  const { height, width } = variant.size;
  const pixels = height * width * 3;
  const blank = runtime.input(variant, variant.input === "image" ? new Uint8Array(pixels) : new Float32Array(pixels));
  let taken = 0;
  for (let i = 0; i < WARM_CALLS; i++) {
    const start = performance.now();
    const made = await session.run({ [session.inputNames[0]]: blank });
    taken = performance.now() - start;
    for (const tensor of Object.values(made)) tensor.dispose();
  }
  return taken;
}

function numbers(data: unknown): Float32Array | Int32Array {
  if (data instanceof Float32Array) return data.slice();
  return Int32Array.from(data as ArrayLike<number>, Number);
}
