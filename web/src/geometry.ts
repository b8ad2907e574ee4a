/** Where a frame goes in a model's input: cut, resized, laid down. The same whole pixels as `images/geometry.py`. */

import { EdgeError } from "./errors";

export interface Size {
  height: number;
  width: number;
}

export interface Box {
  left: number;
  top: number;
  width: number;
  height: number;
}

/** The box `cut` of the frame is resized to the extent of `laid`, and laid into the input at its corner. */
export interface FrameGeometry {
  cut: Box;
  laid: Box;
}

export const RESIZES = ["crop", "short-side", "letterbox", "stretch"] as const;
export type Resize = (typeof RESIZES)[number];

/** Python's `round`: halves go to the even neighbour. */
export function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const part = value - floor;
  if (part !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}

export function frameGeometry(frame: Size, size: Size, resize: Resize, cropRatio: number): FrameGeometry {
  const whole: Box = { left: 0, top: 0, width: frame.width, height: frame.height };
  const everything: Box = { left: 0, top: 0, width: size.width, height: size.height };
  switch (resize) {
    case "stretch":
      return { cut: whole, laid: everything };
    case "letterbox": {
      const scale = Math.min(size.width / frame.width, size.height / frame.height);
      const width = Math.max(1, roundHalfEven(frame.width * scale));
      const height = Math.max(1, roundHalfEven(frame.height * scale));
      const left = Math.floor((size.width - width) / 2);
      const top = Math.floor((size.height - height) / 2);
      return { cut: whole, laid: { left, top, width, height } };
    }
    case "short-side": {
      let width: number, height: number;
      if (frame.height * size.width >= frame.width * size.height) {
        width = roundHalfEven(size.width / cropRatio);
        height = Math.trunc((width * frame.height) / frame.width);
      } else {
        height = roundHalfEven(size.height / cropRatio);
        width = Math.trunc((height * frame.width) / frame.height);
      }
      const left = 0 - roundHalfEven((width - size.width) / 2);
      const top = 0 - roundHalfEven((height - size.height) / 2);
      return { cut: whole, laid: { left, top, width, height } };
    }
    case "crop": {
      const scale = Math.min(frame.width / size.width, frame.height / size.height) * cropRatio;
      const width = Math.max(1, roundHalfEven(size.width * scale));
      const height = Math.max(1, roundHalfEven(size.height * scale));
      const left = Math.floor((frame.width - width) / 2);
      const top = Math.floor((frame.height - height) / 2);
      return { cut: { left, top, width, height }, laid: everything };
    }
    default:
      throw new EdgeError(`There is no resize '${String(resize)}'.`, `Known: ${RESIZES.join(", ")}.`);
  }
}
