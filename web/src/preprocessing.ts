/** A frame of any size as a model's input, in the way that the bundle's manifest declares; see `preprocessing.py`. */

import { EdgeError } from "./errors";
import { frameGeometry, RESIZES, type Resize, type Size } from "./geometry";
import { resized, type Picture } from "./resample";

export interface Preprocessing {
  resize: Resize;
  cropRatio: number;
  interpolation: Interpolation;
  padding: readonly number[];
  mean: readonly number[];
  std: readonly number[];
}

/** The second halves a large box before; `images/scaling.py` says how exactly. */
const INTERPOLATIONS = ["bicubic-antialiased", "halved-bicubic"] as const;
export type Interpolation = (typeof INTERPOLATIONS)[number];

/** What a manifest says of it; a way that this page does not know is refused. */
export function preprocessingFrom(value: unknown): Preprocessing {
  if (typeof value !== "object" || value === null) throw unknown("nothing");
  const given = value as Record<string, unknown>;
  // What version 0.1 wrote, which had one way.
  const isFirst = given.crop === "center" && given.resize === "bicubic-antialiased";
  const how = {
    resize: isFirst ? "crop" : given.resize,
    cropRatio: isFirst ? 1 : given.crop_ratio,
    interpolation: isFirst ? "bicubic-antialiased" : given.interpolation,
    padding: isFirst ? [0, 0, 0] : given.padding,
    mean: given.mean,
    std: given.std,
  };
  const { resize, cropRatio, interpolation } = how;
  if (!RESIZES.includes(resize as Resize)) throw unknown(`resize = ${String(resize)}`);
  if (typeof cropRatio !== "number" || !(cropRatio > 0 && cropRatio <= 1))
    throw unknown(`crop_ratio = ${String(cropRatio)}`);
  if (!INTERPOLATIONS.includes(interpolation as Interpolation))
    throw unknown(`interpolation = ${String(interpolation)}`);
  for (const name of ["padding", "mean", "std"] as const) {
    const triple = how[name];
    if (!Array.isArray(triple) || triple.length !== 3 || !triple.every((v) => Number.isFinite(v)))
      throw unknown(`${name} = ${String(triple)}`);
  }
  for (const [name, said] of [
    ["orientation", "exif"],
    ["color", "rgb"],
  ])
    if (given[name] !== said) throw unknown(`${name} = ${String(given[name])}`);
  if (String(given.background) !== "0,0,0") throw unknown(`background = ${String(given.background)}`);
  return how as Preprocessing;
}

function unknown(said: string): EdgeError {
  return new EdgeError(
    `The bundle prepares images in a way that this page does not know: ${said}.`,
    "Serve it with the version of veca-edge that exported it.",
  );
}

/** How often a box is halved: while it is at least four times as wide and as high as what it is to become. */
function halvings(box: Size, size: Size): number {
  let times = 0;
  while (box.width >= 4 * 2 ** times * size.width && box.height >= 4 * 2 ** times * size.height) times++;
  return times;
}

/** A picture as the model sees it: RGB `[height, width, 3]`. */
export function prepare(picture: Picture, size: Size, how: Preprocessing): Uint8Array {
  const { cut, laid } = frameGeometry(picture, size, how.resize, how.cropRatio);
  const times = how.interpolation === "halved-bicubic" ? halvings(cut, laid) : 0;
  const made = resized(picture, cut, laid.width, laid.height, times);
  if (laid.width === size.width && laid.height === size.height) return made;
  const frame = new Uint8Array(size.width * size.height * 3);
  for (let i = 0; i < frame.length; i++) frame[i] = how.padding[i % 3];
  const top = Math.max(0, laid.top);
  const left = Math.max(0, laid.left);
  const bottom = Math.min(size.height, laid.top + laid.height);
  const right = Math.min(size.width, laid.left + laid.width);
  for (let y = top; y < bottom; y++) {
    const from = ((y - laid.top) * laid.width + left - laid.left) * 3;
    frame.set(made.subarray(from, from + (right - left) * 3), (y * size.width + left) * 3);
  }
  return frame;
}

/** A frame as models with `tensor` input take it: float32 `[3, height, width]`, (x / 255 - mean) / std. */
export function normalised(frame: Uint8Array, how: Preprocessing): Float32Array {
  const pixels = frame.length / 3;
  const made = new Float32Array(frame.length);
  for (let channel = 0; channel < 3; channel++) {
    const mean = how.mean[channel];
    const std = how.std[channel];
    for (let i = 0; i < pixels; i++) made[channel * pixels + i] = (frame[3 * i + channel] / 255 - mean) / std;
  }
  return made;
}
