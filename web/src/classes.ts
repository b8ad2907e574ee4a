/** What class scores say. */

export interface LikelyClass {
  name: string;
  share: number;
}

/** The most likely classes by softmax, best first. Without labels they are called by their index. */
export function topClasses(logits: Float32Array, labels: readonly string[] | null, most = 5): LikelyClass[] {
  const highest = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const likely = Array.from(logits, (value) => Math.exp(value - highest));
  const sum = likely.reduce((a, b) => a + b, 0);
  return likely
    .map((value, i) => ({ name: labels?.[i] ?? String(i), share: value / sum }))
    .sort((a, b) => b.share - a.share)
    .slice(0, most);
}
