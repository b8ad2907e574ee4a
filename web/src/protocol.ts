/** What the page and its worker say to each other. */

import type { LikelyClass } from "./classes";
import type { Size } from "./geometry";
import type { Budgets, Decision } from "./governor";
import type { Values } from "./model";
import type { LegendRow, Show } from "./painter";
import type { Backend } from "./runtime";
import type { Frame } from "./sources";

export interface Choice {
  precision: string;
  size: Size;
  backend: Backend;
}

export type ToWorker =
  | { kind: "open"; base: string; choice: Choice }
  /** More of the model is to be loaded; a frame that comes meanwhile waits. */
  | { kind: "load" }
  | { kind: "steer"; coreCount: number; budgets: Budgets }
  /** `isFirst`: of a new source. What the model took and gave comes back when `wantsEvidence`. */
  | { kind: "frame"; frame: Frame; show: Show; isFirst: boolean; wantsEvidence: boolean };

/** What a frame took, in milliseconds; `waiting` is from its capture until the worker has it. */
export interface Times {
  waiting: number;
  reading: number;
  preparing: number;
  model: number;
  drawing: number;
}

/** What the model took and gave: the frame's pixels (RGBA), the same as the model sees them (RGB), its outputs. */
export interface Evidence {
  captured: number;
  pixels: { width: number; height: number; data: Uint8ClampedArray };
  prepared: Uint8Array;
  outputs: Record<string, Values>;
}

/** A model whose largest core count is loaded. */
export interface Opened {
  kind: "opened";
  outputs: string[];
  threads: number;
}

/** The core counts that are loaded, ascending, of `total`; `isReady` when all of them are, and warm. */
export interface Loaded {
  kind: "loaded";
  coreCounts: number[];
  total: number;
  isReady: boolean;
}

/** One frame: what it took, and what the model says of it. `picture` is ready to be shown. */
export interface Step {
  kind: "step";
  coreCount: number;
  times: Times;
  classes: LikelyClass[];
  legend: LegendRow[];
  depthRange: [number, number] | null;
  picture: ImageBitmap;
  evidence: Evidence | null;
  decision: Decision | null;
}

export type FromWorker =
  | Opened
  | Loaded
  | Step
  /** `isFatal`: no model is open. */
  | { kind: "failed"; message: string; hint: string; isFatal: boolean };
