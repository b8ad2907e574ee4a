/** Every golden vector, replayed. */

import { describe, expect, it } from "vitest";

import { topClasses } from "../src/classes";
import { frameGeometry } from "../src/geometry";
import { Governor, RULES } from "../src/governor";
import { labelsToFrame, NO_CLASS, valuesToFrame } from "../src/mapping";
import { depthRangeOf } from "../src/painter";
import { colourFrom, palette, ramp } from "../src/palette";
import { patchBasis, patchColours } from "../src/patches";
import { prepare, type Preprocessing } from "../src/preprocessing";
import { read, sizeOf, type Trace, vectors, type Way } from "./vectors";

const NORMAL = { mean: [0, 0, 0], std: [1, 1, 1] };

function howOf(way: Way, interpolation: Preprocessing["interpolation"]): Preprocessing {
  return { resize: way.resize, cropRatio: way.cropRatio, interpolation, padding: way.padding, ...NORMAL };
}

function largest(a: ArrayLike<number>, b: ArrayLike<number>): number {
  expect(a.length).toBe(b.length);
  let most = 0;
  for (let i = 0; i < a.length; i++)
    if (!(Number.isNaN(a[i]) && Number.isNaN(b[i]))) {
      const apart = Math.abs(a[i] - b[i]);
      if (!(apart <= most)) most = apart;
    }
  return most;
}

describe("golden vectors", () => {
  it("frames are cut and laid in the same pixels", () => {
    expect(vectors.geometry.length).toBeGreaterThan(200);
    for (const way of vectors.geometry) {
      const { cut, laid } = frameGeometry(sizeOf(way.frame), sizeOf(way.size), way.resize, way.cropRatio);
      expect([cut.left, cut.top, cut.width, cut.height], JSON.stringify(way)).toEqual(way.cut);
      expect([laid.left, laid.top, laid.width, laid.height], JSON.stringify(way)).toEqual(way.laid);
    }
  });

  it.each(vectors.preprocessing)("$expected.file is equal, bit for bit", (way) => {
    const [height, width] = way.frame;
    const picture = { width, height, channels: 3 as const, data: read(way.pixels) as Uint8Array };
    const made = prepare(picture, sizeOf(way.size), howOf(way, way.interpolation));
    expect(largest(made, read(way.expected))).toBe(0);
  });

  it.each(vectors.maps)("$expected.file lies on the same pixels", (way) => {
    const how = howOf(way, "bicubic-antialiased");
    const [rows, columns, channels = 1] = way.values.shape;
    const [cells, frame, size] = [{ height: rows, width: columns }, sizeOf(way.frame), sizeOf(way.size)];
    const values = read(way.values);
    const expected = read(way.expected);
    if (way.interpolation === "bilinear") {
      const made = valuesToFrame(values as Float32Array, cells, channels, frame, size, how);
      expect(largest(made, expected)).toBeLessThanOrEqual(way.tolerance);
      return;
    }
    // Bytes say 255 where the model saw nothing, and have no negative numbers.
    const isNothing = (label: number) => label === NO_CLASS || (way.values.type === "u8" && label === 255);
    const made = labelsToFrame(values, cells, frame, size, how).map((label) => (isNothing(label) ? NO_CLASS : label));
    const wanted = Int32Array.from(expected, (label) => (isNothing(label) ? NO_CLASS : label));
    expect(largest(made, wanted)).toBe(0);
  });

  it("colours are the same", () => {
    expect(palette(40)).toEqual(vectors.palette.map(colourFrom));
    for (const [value, ...colour] of vectors.ramp) expect(largest(ramp(value), colour)).toBeLessThanOrEqual(1);
  });

  it("a frame's depths have the same range", () => {
    for (const given of vectors.depth.filter((one) => !one.rangeIsGiven)) {
      const [near, far] = depthRangeOf(read(given.metres) as Float32Array);
      expect(Math.abs(near - given.near)).toBeLessThanOrEqual(given.rangeTolerance);
      expect(Math.abs(far - given.far)).toBeLessThanOrEqual(given.rangeTolerance);
    }
  });

  it.each(vectors.pca)("patch features have the same axes and colours", (given) => {
    const features = read(given.features) as Float32Array;
    const [count, width] = given.features.shape;
    const basis = patchBasis(features, count, width);
    const axes = read(given.axes); // [width, 3]
    for (let a = 0; a < 3; a++) {
      const column = Float32Array.from({ length: width }, (_, i) => axes[3 * i + a]);
      expect(largest(basis.axes.subarray(a * width, (a + 1) * width), column)).toBeLessThanOrEqual(given.basisTolerance);
    }
    const stored = Float32Array.from({ length: 3 * width }, (_, i) => axes[3 * (i % width) + Math.floor(i / width)]);
    const mean = read(given.mean) as Float32Array;
    const made = patchColours(features, { mean, axes: stored, low: given.low, high: given.high }, count);
    expect(largest(made, read(given.expected))).toBeLessThanOrEqual(given.tolerance);
  });

  it("the most likely classes are the same", () => {
    for (const { logits, best, tolerance } of vectors.classes) {
      const made = topClasses(Float32Array.from(logits), null);
      expect(made.map((one) => Number(one.name))).toEqual(best.map(([index]) => index));
      made.forEach((one, i) => expect(Math.abs(one.share - best[i][1])).toBeLessThanOrEqual(tolerance));
    }
  });

  it("the governor has the same rules", () => {
    const ours = Object.fromEntries(
      Object.entries(RULES).map(([name, value]) => [name.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`), value]),
    );
    expect(ours).toEqual(vectors.governor.rules);
  });

  function replayed<Before>(trace: Trace<Before>, stages: (before: Before) => Record<string, number>): Governor {
    const budgets = { modelMs: trace.budgetMs, frameMs: trace.frameBudgetMs };
    const governor = new Governor(new Map(trace.expectedMs), budgets, trace.coreCount);
    trace.frames.forEach(([count, ms, now, next, before], i) =>
      expect(governor.observe(count, ms, now, stages(before)), `frame ${i}`).toBe(next),
    );
    return governor;
  }

  it.each(vectors.governor.traces)("the governor decides the same: $name", (trace) => {
    replayed(trace, (preparing) => ({ preparing }));
  });

  it.each(vectors.governor.frameTraces)("and for the same reason: $name", (trace) => {
    const governor = replayed(trace, (before) => before);
    const said = governor.log.map(({ at, before, after, reason, stage }) => ({ at, before, after, reason, stage }));
    expect(said).toEqual(trace.decisions);
  });
});
