/** Antialiased bicubic interpolation in the integers of Pillow's `resize`, so that inputs agree bit for bit. */

import type { Box } from "./geometry";

/** Pixels of one picture, row by row; `channels` of each are stored, the first three are red, green and blue. */
export interface Picture {
  width: number;
  height: number;
  channels: 3 | 4;
  data: Uint8Array | Uint8ClampedArray;
}

const SUPPORT = 2;
const BITS = 22;
const HALF = 1 << (BITS - 1);

function bicubic(distance: number): number {
  const x = Math.abs(distance);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * -0.5;
  return 0;
}

/** For each of `made` pixels, which of `given` pixels it is the sum of, and their weights times 2^22. */
interface Taps {
  first: Int32Array;
  count: Int32Array;
  most: number;
  weights: Int32Array;
}

/** `extent`: how much of the pixels is resized, which may end in the middle of the last one. */
function tapsOf(given: number, extent: number, made: number): Taps {
  const scale = extent / made;
  const stretch = Math.max(scale, 1);
  const support = SUPPORT * stretch;
  const most = Math.ceil(support) * 2 + 1;
  const first = new Int32Array(made);
  const count = new Int32Array(made);
  const weights = new Int32Array(made * most);
  const exact = new Float64Array(most);
  for (let i = 0; i < made; i++) {
    const centre = (i + 0.5) * scale;
    const start = Math.max(0, Math.trunc(centre - support + 0.5));
    const stop = Math.min(given, Math.trunc(centre + support + 0.5));
    let sum = 0;
    for (let k = 0; k < stop - start; k++) {
      exact[k] = bicubic((k + start - centre + 0.5) / stretch);
      sum += exact[k];
    }
    for (let k = 0; k < stop - start; k++) {
      const weight = (sum === 0 ? exact[k] : exact[k] / sum) * (1 << BITS);
      weights[i * most + k] = Math.trunc(weight < 0 ? weight - 0.5 : weight + 0.5);
    }
    first[i] = start;
    count[i] = stop - start;
  }
  return { first, count, most, weights };
}

/**
 * The box of a picture, resized: RGB `[height, width, 3]`; rows first, then columns, each rounded to 8 bits.
 *
 * `halvings`: how often it is halved before, each time with the last row and column twice where a side is odd.
 */
export function resized(picture: Picture, box: Box, width: number, height: number, halvings = 0): Uint8Array {
  let from = picture;
  let part = box;
  for (let i = 0; i < halvings; i++) {
    from = halved(from, part);
    part = { left: 0, top: 0, width: from.width, height: from.height };
  }
  const across = box.width / 2 ** halvings;
  const down = box.height / 2 ** halvings;
  const rows = across === width ? copied(from, part) : resizedAlong(from, part, across, width);
  return down === height ? rows : resizedDown(rows, width, part.height, down, height);
}

/** Every 2 x 2 pixels of a box as their average. */
function halved(picture: Picture, box: Box): Picture {
  const { data, channels } = picture;
  const width = Math.ceil(box.width / 2);
  const height = Math.ceil(box.height / 2);
  const made = new Uint8Array(width * height * 3);
  let to = 0;
  for (let y = 0; y < height; y++) {
    const upper = (box.top + 2 * y) * picture.width + box.left;
    const lower = (box.top + Math.min(2 * y + 1, box.height - 1)) * picture.width + box.left;
    for (let x = 0; x < width; x++) {
      const left = 2 * x;
      const right = Math.min(left + 1, box.width - 1);
      const a = (upper + left) * channels;
      const b = (upper + right) * channels;
      const c = (lower + left) * channels;
      const d = (lower + right) * channels;
      for (let k = 0; k < 3; k++) made[to++] = (data[a + k] + data[b + k] + data[c + k] + data[d + k] + 2) >> 2;
    }
  }
  return { width, height, channels: 3, data: made };
}

function copied(picture: Picture, box: Box): Uint8Array {
  const { data, channels } = picture;
  const made = new Uint8Array(box.width * box.height * 3);
  let to = 0;
  for (let y = 0; y < box.height; y++) {
    let from = ((box.top + y) * picture.width + box.left) * channels;
    for (let x = 0; x < box.width; x++, from += channels, to += 3) {
      made[to] = data[from];
      made[to + 1] = data[from + 1];
      made[to + 2] = data[from + 2];
    }
  }
  return made;
}

function resizedAlong(picture: Picture, box: Box, extent: number, width: number): Uint8Array {
  const { data, channels } = picture;
  const { first, count, most, weights } = tapsOf(box.width, extent, width);
  const made = new Uint8Array(width * box.height * 3);
  let to = 0;
  for (let y = 0; y < box.height; y++) {
    const row = ((box.top + y) * picture.width + box.left) * channels;
    for (let x = 0; x < width; x++, to += 3) {
      let red = HALF,
        green = HALF,
        blue = HALF;
      let from = row + first[x] * channels;
      const start = x * most;
      for (let k = start; k < start + count[x]; k++, from += channels) {
        const weight = weights[k];
        red += data[from] * weight;
        green += data[from + 1] * weight;
        blue += data[from + 2] * weight;
      }
      made[to] = clipped(red);
      made[to + 1] = clipped(green);
      made[to + 2] = clipped(blue);
    }
  }
  return made;
}

function resizedDown(rows: Uint8Array, width: number, given: number, extent: number, height: number): Uint8Array {
  const { first, count, most, weights } = tapsOf(given, extent, height);
  const made = new Uint8Array(width * height * 3);
  const step = width * 3;
  const sums = new Int32Array(step);
  for (let y = 0; y < height; y++) {
    sums.fill(HALF);
    for (let k = 0; k < count[y]; k++) {
      const weight = weights[y * most + k];
      const from = (first[y] + k) * step;
      for (let x = 0; x < step; x++) sums[x] += rows[from + x] * weight;
    }
    for (let x = 0; x < step; x++) made[y * step + x] = clipped(sums[x]);
  }
  return made;
}

function clipped(sum: number): number {
  const value = sum >> BITS;
  return value < 0 ? 0 : value > 255 ? 255 : value;
}
