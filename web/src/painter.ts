/** What a model says, as colours over the frame. Colours mean the same for a whole run: ranges are of its first frame. */

import type { Size } from "./geometry";
import type { Bundle } from "./manifest";
import { labelsToFrame, valuesToFrame } from "./mapping";
import type { Values } from "./model";
import { palette, ramp, type Colour } from "./palette";
import { patchBasis, patchColours, percentile, type PatchBasis } from "./patches";

/** What can be drawn, with the output that each needs. */
export const SHOWN = { segmentation: "segmentation", depth: "depth", pca: "dense" } as const;
export type Show = keyof typeof SHOWN | "nothing";

export interface LegendRow {
  name: string;
  share: number;
  colour: Colour;
}

/** RGBA pixels of the frame's size, and what explains them. */
export interface Overlay {
  pixels: Uint8ClampedArray<ArrayBuffer>;
  legend: LegendRow[];
  /** Metres of the two ends of the colours. */
  depthRange: [number, number] | null;
}

const OPACITY = { masks: 0.55, depth: 0.8, colours: 0.85 };
const MOST_LEGEND = 10;
const STEPS = 256;
const RAMP = Array.from({ length: STEPS }, (_, i) => ramp(i / (STEPS - 1)));

export class Painter {
  private basis: PatchBasis | null = null;
  private range: [number, number] | null = null;

  constructor(
    private readonly bundle: Bundle,
    private readonly size: Size,
  ) {}

  /** Forgets what the first frame fixed. */
  startOver(): void {
    this.basis = null;
    this.range = null;
  }

  paint(show: Exclude<Show, "nothing">, outputs: Record<string, Values>, frame: Size): Overlay {
    const values = outputs[SHOWN[show]];
    switch (show) {
      case "segmentation":
        return this.masks(values, frame);
      case "depth":
        return this.depth(values, frame);
      case "pca":
        return this.features(values, frame);
    }
  }

  private masks({ dims, data }: Values, frame: Size): Overlay {
    const how = this.bundle.preprocessing;
    const labels = labelsToFrame(data, { height: dims[0], width: dims[1] }, frame, this.size, how);
    const counts = new Map<number, number>();
    for (const label of labels) if (label >= 0) counts.set(label, (counts.get(label) ?? 0) + 1);
    const highest = Math.max(0, ...counts.keys());
    const colours = this.bundle.maskColours ?? palette(this.bundle.maskLabels?.length ?? highest + 1);
    const opacity = Math.round(255 * OPACITY.masks);
    const words = new Uint32Array(highest + 1);
    for (const label of counts.keys()) {
      const [r, g, b] = colours[label];
      words[label] = ((opacity << 24) | (b << 16) | (g << 8) | r) >>> 0;
    }
    const pixels = new Uint8ClampedArray(labels.length * 4);
    const whole = new Uint32Array(pixels.buffer);
    for (let i = 0; i < labels.length; i++) whole[i] = labels[i] < 0 ? 0 : words[labels[i]];
    const seen = [...counts.values()].reduce((a, b) => a + b, 0);
    const legend = [...counts]
      .sort((a, b) => b[1] - a[1])
      .slice(0, MOST_LEGEND)
      .map(([label, n]) => ({
        name: this.bundle.maskLabels?.[label] ?? String(label),
        share: n / seen,
        colour: colours[label],
      }));
    return { pixels, legend, depthRange: null };
  }

  private depth({ dims, data }: Values, frame: Size): Overlay {
    const values = data as Float32Array;
    const how = this.bundle.preprocessing;
    const metres = valuesToFrame(values, { height: dims[0], width: dims[1] }, 1, frame, this.size, how);
    this.range ??= depthRangeOf(metres);
    const [near, far] = this.range;
    const extent = far > near ? far - near : 1;
    const pixels = new Uint8ClampedArray(metres.length * 4);
    for (let i = 0; i < metres.length; i++) {
      if (Number.isNaN(metres[i])) continue;
      const share = 1 - Math.min(Math.max((metres[i] - near) / extent, 0), 1);
      put(pixels, i, RAMP[Math.round(share * (STEPS - 1))], OPACITY.depth);
    }
    return { pixels, legend: [], depthRange: this.range };
  }

  private features({ dims, data }: Values, frame: Size): Overlay {
    const values = data as Float32Array;
    const [count, width] = dims;
    const { patchSize, preprocessing } = this.bundle;
    this.basis ??= patchBasis(values, count, width);
    const cells = { height: this.size.height / patchSize, width: this.size.width / patchSize };
    const colours = valuesToFrame(
      patchColours(values, this.basis, count),
      cells,
      3,
      frame,
      this.size,
      preprocessing,
    );
    const pixels = new Uint8ClampedArray((colours.length / 3) * 4);
    for (let i = 0; i < colours.length / 3; i++)
      if (!Number.isNaN(colours[3 * i]))
        put(pixels, i, [colours[3 * i], colours[3 * i + 1], colours[3 * i + 2]], OPACITY.colours);
    return { pixels, legend: [], depthRange: null };
  }
}

/** The range of a frame's depths, without the 2% that are nearest and farthest. */
export function depthRangeOf(metres: Float32Array): [number, number] {
  const known = metres.filter((value) => Number.isFinite(value));
  return [percentile(known, 2), percentile(known, 98)];
}

function put(pixels: Uint8ClampedArray, i: number, [r, g, b]: Colour, opacity: number): void {
  pixels[4 * i] = r;
  pixels[4 * i + 1] = g;
  pixels[4 * i + 2] = b;
  pixels[4 * i + 3] = 255 * opacity;
}
