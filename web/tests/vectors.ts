/** The golden vectors that every port of the preprocessing and of the governor replays. */

import { readFileSync } from "node:fs";
import { join } from "node:path";

const FOLDER = process.env.VECA_EDGE_VECTORS ?? "";
if (!FOLDER)
  throw new Error(
    "VECA_EDGE_VECTORS names no folder. Make one: python -m veca_edge.apps.golden_vectors FOLDER, " +
      "then VECA_EDGE_VECTORS=FOLDER npm test",
  );

export interface Stored {
  file: string;
  type: "u8" | "i32" | "f32";
  shape: number[];
}

export interface Way {
  resize: "crop" | "short-side" | "letterbox" | "stretch";
  cropRatio: number;
  padding: number[];
  frame: [number, number];
  size: [number, number];
}

type Interpolation = "bicubic-antialiased" | "halved-bicubic";
type Box = [number, number, number, number];

export interface Vectors {
  geometry: (Way & { cut: Box; laid: Box })[];
  preprocessing: (Way & { interpolation: Interpolation; pixels: Stored; expected: Stored })[];
  maps: (Way & { interpolation: "nearest" | "bilinear"; values: Stored; expected: Stored; tolerance: number })[];
  palette: string[];
  ramp: [number, number, number, number][];
  depth: { metres: Stored; rangeIsGiven: boolean; near: number; far: number; rangeTolerance: number }[];
  pca: {
    grid: [number, number];
    features: Stored;
    mean: Stored;
    axes: Stored;
    low: number[];
    high: number[];
    basisTolerance: number;
    expected: Stored;
    tolerance: number;
  }[];
  classes: { logits: number[]; best: [number, number][]; tolerance: number }[];
  governor: { rules: Record<string, number>; traces: Trace[]; frameTraces: FrameTrace[] };
}

/** `Before` is what a frame took before the model, in all or by stage. */
export interface Trace<Before = number> {
  name: string;
  expectedMs: [number, number][];
  budgetMs: number | null;
  frameBudgetMs: number | null;
  coreCount: number;
  /** Core count, latency, time, next core count, what came before the model. */
  frames: [number, number, number, number, Before][];
}

/** Of a budget for the whole frame. */
export interface FrameTrace extends Trace<Record<string, number>> {
  decisions: { at: number; before: number; after: number; reason: string; stage: string }[];
}

export const vectors = JSON.parse(readFileSync(join(FOLDER, "vectors.json"), "utf8")) as Vectors;

export function read(stored: Stored): Uint8Array | Int32Array | Float32Array {
  const copy = new Uint8Array(readFileSync(join(FOLDER, stored.file))).buffer;
  if (stored.type === "u8") return new Uint8Array(copy);
  return stored.type === "i32" ? new Int32Array(copy) : new Float32Array(copy);
}

export function sizeOf([height, width]: [number, number]) {
  return { height, width };
}
