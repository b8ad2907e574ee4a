/** Patch features as colours: their three main components, on axes that stay the same for a whole run. */

export interface PatchBasis {
  mean: Float32Array;
  /** `[3, width]`. */
  axes: Float32Array;
  low: number[];
  high: number[];
}

const ITERATIONS = 60;

/** The axes of one frame's features `[count, width]`: subspace iteration, which needs no matrix of width squared. */
export function patchBasis(features: Float32Array, count: number, width: number): PatchBasis {
  const mean = new Float32Array(width);
  for (let i = 0; i < features.length; i++) mean[i % width] += features[i] / count;
  const centred = features.map((value, i) => value - mean[i % width]);
  const kept = Math.min(3, width);
  const axes = new Float32Array(3 * width);
  // Unequal starts, so that no axis begins orthogonal to what it looks for.
  for (let a = 0; a < kept; a++) for (let i = 0; i < width; i++) axes[a * width + i] = Math.sin(1 + i * (a + 1) + a);
  for (let turn = 0; turn < ITERATIONS; turn++) {
    for (let a = 0; a < kept; a++) {
      const axis = axes.subarray(a * width, (a + 1) * width);
      const along = projected(centred, axis, count, width);
      axis.fill(0);
      for (let n = 0; n < count; n++) {
        const row = n * width;
        for (let i = 0; i < width; i++) axis[i] += along[n] * centred[row + i];
      }
      orthonormalise(axes, a, width);
    }
  }
  const low = [0, 0, 0];
  const high = [0, 0, 0];
  for (let a = 0; a < 3; a++) {
    const axis = axes.subarray(a * width, (a + 1) * width);
    // An axis and its opposite are equally good: the larger entry is positive, so that runs agree.
    const largest = axis.reduce((most, value) => (Math.abs(value) > Math.abs(most) ? value : most), 0);
    if (largest < 0) for (let i = 0; i < width; i++) axis[i] = -axis[i];
    const along = projected(centred, axis, count, width);
    [low[a], high[a]] = [percentile(along, 1), percentile(along, 99)];
  }
  return { mean, axes, low, high };
}

function projected(rows: Float32Array, axis: Float32Array, count: number, width: number): Float32Array {
  const made = new Float32Array(count);
  for (let n = 0; n < count; n++) {
    let sum = 0;
    for (let i = 0; i < width; i++) sum += rows[n * width + i] * axis[i];
    made[n] = sum;
  }
  return made;
}

/** Makes axis `a` orthogonal to those before it, and of length 1; 0 where nothing is left. */
function orthonormalise(axes: Float32Array, a: number, width: number): void {
  const axis = axes.subarray(a * width, (a + 1) * width);
  for (let b = 0; b < a; b++) {
    const other = axes.subarray(b * width, (b + 1) * width);
    let dot = 0;
    for (let i = 0; i < width; i++) dot += axis[i] * other[i];
    for (let i = 0; i < width; i++) axis[i] -= dot * other[i];
  }
  const length = Math.hypot(...axis);
  for (let i = 0; i < width; i++) axis[i] = length > 1e-20 ? axis[i] / length : 0;
}

/** Linear between the two nearest, as NumPy's. */
export function percentile(values: Float32Array | readonly number[], percent: number): number {
  const ordered = Float64Array.from(values).sort();
  const at = ((ordered.length - 1) * percent) / 100;
  const lower = Math.floor(at);
  const upper = Math.min(lower + 1, ordered.length - 1);
  return ordered[lower] + (ordered[upper] - ordered[lower]) * (at - lower);
}

/** One frame's patches as colours `[count, 3]`, 0 to 255. */
export function patchColours(features: Float32Array, basis: PatchBasis, count: number): Float32Array {
  const width = basis.mean.length;
  const made = new Float32Array(3 * count);
  const centred = features.map((value, i) => value - basis.mean[i % width]);
  for (let a = 0; a < 3; a++) {
    const along = projected(centred, basis.axes.subarray(a * width, (a + 1) * width), count, width);
    const extent = basis.high[a] - basis.low[a];
    // An axis along which nothing differs is grey.
    for (let n = 0; n < count; n++) {
      const share = extent > 0 ? (along[n] - basis.low[a]) / extent : 0.5;
      made[3 * n + a] = 255 * Math.min(Math.max(share, 0), 1);
    }
  }
  return made;
}
