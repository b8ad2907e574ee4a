/** Colours for values: yellow to blue through green, even steps look even; as `images/palette.py`. */

import { roundHalfEven } from "./geometry";

export type Colour = readonly [number, number, number];

const RAMP: readonly Colour[] = [
  [68, 1, 84],
  [59, 82, 139],
  [33, 145, 140],
  [94, 201, 98],
  [253, 231, 37],
];
const GOLDEN = 0.618033988749895;

/** The colour of a value in 0..1, dark to bright. */
export function ramp(value: number): Colour {
  const at = Math.min(Math.max(value, 0), 1) * (RAMP.length - 1);
  const lower = Math.min(Math.floor(at), RAMP.length - 2);
  const share = at - lower;
  const between = (i: number) => Math.round(RAMP[lower][i] * (1 - share) + RAMP[lower + 1][i] * share);
  return [between(0), between(1), between(2)];
}

/** As many colours, the same for the same number, each far from the ones before it. */
export function palette(classes: number): Colour[] {
  return Array.from({ length: classes }, (_, i) => {
    const value = [0.95, 0.7, 0.85][i % 3];
    const saturation = [0.75, 0.95][Math.floor(i / 3) % 2];
    const hue = ((i * GOLDEN) % 1) * 6;
    const part = hue - Math.floor(hue);
    const [p, q, t] = [
      value * (1 - saturation),
      value * (1 - saturation * part),
      value * (1 - saturation * (1 - part)),
    ];
    const [r, g, b] = [
      [value, t, p],
      [q, value, p],
      [p, value, t],
      [p, q, value],
      [t, p, value],
      [value, p, q],
    ][Math.floor(hue) % 6];
    return [roundHalfEven(255 * r), roundHalfEven(255 * g), roundHalfEven(255 * b)];
  });
}

/** `#rrggbb`. */
export function colourFrom(text: string): Colour {
  const value = parseInt(text.slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}
