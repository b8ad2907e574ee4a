/** One turn of a measurement, as the command line hands it out, and what it gives back. */

export interface Turn {
  id: string;
  path: string;
  name: string;
  frames: string;
  threads: number;
  warmup_seconds: number;
  seconds: number;
  samples: number;
  most_seconds: number;
  /** Instead of samples, one window a second for this long. */
  sustained_seconds: number;
}

/** End of a second, calls, p50, p95 and the slowest. */
export type Window = [number, number, number, number, number];

export interface Answer {
  load_ms: number;
  first_ms: number;
  idle_memory_bytes: number;
  peak_memory_bytes: number;
  samples_ms: number[];
  windows: Window[];
}

export type FromSampler = { answer: Answer } | { message: string };
