/** What the page and its worker say to each other. */

import type { LikelyClass } from "./classes";
import type { Size } from "./geometry";
import type { Decision } from "./governor";
import type { Values } from "./model";
import type { LegendRow, Show } from "./painter";
import type { Backend } from "./runtime";

export interface Choice {
  precision: string;
  size: Size;
  backend: Backend;
}

export type ToWorker =
  | { kind: "open"; base: string; choice: Choice }
  | { kind: "steer"; coreCount: number; budgetMs: number | null }
  /** `isFirst`: of a new source. The outputs come back when `wantsOutputs`. */
  | { kind: "frame"; bitmap: ImageBitmap; show: Show; isFirst: boolean; wantsOutputs: boolean };

export interface Opened {
  kind: "opened";
  coreCounts: number[];
  outputs: string[];
  threads: number;
}

/** One frame: what it took, in milliseconds, and what the model says of it. `picture` is ready to be shown. */
export interface Step {
  kind: "step";
  coreCount: number;
  times: { capture: number; prepare: number; model: number; draw: number };
  classes: LikelyClass[];
  legend: LegendRow[];
  depthRange: [number, number] | null;
  picture: ImageBitmap;
  outputs: Record<string, Values> | null;
  decision: Decision | null;
}

export type FromWorker =
  | { kind: "progress"; done: number; total: number }
  | Opened
  | Step
  /** `isFatal`: no model is open. */
  | { kind: "failed"; message: string; hint: string; isFatal: boolean };
