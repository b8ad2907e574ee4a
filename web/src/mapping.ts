/** A map of the model's input as a map of the frame; the same cells as `images/mapping.py`. */

import { frameGeometry, type Size } from "./geometry";
import type { Preprocessing } from "./preprocessing";

/** What a label map says where the model saw nothing. */
export const NO_CLASS = -1;

interface Axis {
  first: number;
  nearest: Int32Array;
  lower: Int32Array;
  upper: Int32Array;
  share: Float32Array;
}

function axisOf(frame: number, size: number, cut: [number, number], laid: [number, number], cells: number): Axis {
  const pixels: number[] = [];
  const places: number[] = [];
  for (let p = Math.max(0, cut[0]); p < Math.min(frame, cut[0] + cut[1]); p++) {
    const at = laid[0] + ((p + 0.5 - cut[0]) * laid[1]) / cut[1];
    if (at < 0 || at >= size) continue;
    pixels.push(p);
    places.push((at * cells) / size);
  }
  // The cells whose centres show the frame; where none does, the one that shows the most of it.
  const start = (Math.max(0, laid[0]) * cells) / size;
  const stop = (Math.min(size, laid[0] + laid[1]) * cells) / size;
  let low = Math.ceil(start - 0.5);
  let high = Math.floor(stop - 0.5);
  if (low > high) low = high = Math.min(cells - 1, Math.trunc((start + stop) / 2));
  const axis: Axis = {
    first: pixels.length ? pixels[0] : 0,
    nearest: new Int32Array(pixels.length),
    lower: new Int32Array(pixels.length),
    upper: new Int32Array(pixels.length),
    share: new Float32Array(pixels.length),
  };
  places.forEach((at, i) => {
    const place = Math.min(Math.max(at - 0.5, low), high);
    axis.nearest[i] = Math.min(Math.max(Math.trunc(at), low), high);
    axis.lower[i] = Math.min(Math.trunc(place), high);
    axis.upper[i] = Math.min(axis.lower[i] + 1, high);
    axis.share[i] = place - axis.lower[i];
  });
  return axis;
}

function axesOf(cells: Size, frame: Size, size: Size, how: Preprocessing): { rows: Axis; columns: Axis } {
  const { cut, laid } = frameGeometry(frame, size, how.resize, how.cropRatio);
  return {
    rows: axisOf(frame.height, size.height, [cut.top, cut.height], [laid.top, laid.height], cells.height),
    columns: axisOf(frame.width, size.width, [cut.left, cut.width], [laid.left, laid.width], cells.width),
  };
}

/** Labels `[cells.height, cells.width]` for every pixel of the frame; `NO_CLASS` where the model saw nothing. */
export function labelsToFrame(
  labels: ArrayLike<number>,
  cells: Size,
  frame: Size,
  size: Size,
  how: Preprocessing,
): Int32Array {
  const { rows, columns } = axesOf(cells, frame, size, how);
  const made = new Int32Array(frame.width * frame.height).fill(NO_CLASS);
  for (let y = 0; y < rows.nearest.length; y++) {
    const from = rows.nearest[y] * cells.width;
    const to = (rows.first + y) * frame.width + columns.first;
    for (let x = 0; x < columns.nearest.length; x++) made[to + x] = labels[from + columns.nearest[x]];
  }
  return made;
}

/** Values `[cells.height, cells.width, channels]`, linearly between the centres of cells; NaN where it saw nothing. */
export function valuesToFrame(
  values: Float32Array,
  cells: Size,
  channels: number,
  frame: Size,
  size: Size,
  how: Preprocessing,
): Float32Array {
  const { rows, columns } = axesOf(cells, frame, size, how);
  const made = new Float32Array(frame.width * frame.height * channels).fill(NaN);
  for (let y = 0; y < rows.lower.length; y++) {
    const upper = rows.lower[y] * cells.width;
    const lower = rows.upper[y] * cells.width;
    const down = rows.share[y];
    for (let x = 0; x < columns.lower.length; x++) {
      const left = columns.lower[x];
      const right = columns.upper[x];
      const along = columns.share[x];
      const to = ((rows.first + y) * frame.width + columns.first + x) * channels;
      for (let c = 0; c < channels; c++) {
        const above = values[(upper + left) * channels + c] * (1 - along) + values[(upper + right) * channels + c] * along;
        const below = values[(lower + left) * channels + c] * (1 - along) + values[(lower + right) * channels + c] * along;
        made[to + c] = above * (1 - down) + below * down;
      }
    }
  }
  return made;
}
