/**
 * Holds a latency budget by moving between core counts: the same rules as `runtime/governor.py`, which explains them.
 *
 * Pure logic: latencies and times come in, a core count goes out.
 */

import { EdgeError } from "./errors";

/** When to move. Times are in seconds, shares are of the budget or of frames. */
export const RULES = {
  interval: 1.0,
  burst: 8,
  burstMisses: 3,
  window: 60,
  missShare: 0.05,
  least: 20,
  room: 0.92,
  probation: 10.0,
  backoff: 5.0,
  longestBackoff: 120.0,
  relief: 0.85,
  usual: 0.9,
};

/** One move, or the finding that there is none to make: then `before` and `after` are the same. */
export interface Decision {
  at: number;
  before: number;
  after: number;
  load: number;
  predictedMs: number;
  reason: string;
}

interface Failed {
  until: number;
  backoff: number;
  predictedMs: number;
}

interface Misses {
  missed: number;
  frames: number;
  load: number;
}

const NONE: Misses = { missed: 0, frames: 0, load: 0 };
const MOST_LOGGED = 1000;

export class Governor {
  readonly log: Decision[] = [];
  private readonly expected = new Map<number, number>();
  private readonly counts: number[];
  private loads: number[] = [];
  private before: number[] = [];
  /** What the model may take of the next frame. */
  private leftMs: number;
  private sinceMove = 0;
  private movedAt = -Infinity;
  private helplessAt = -Infinity;
  private readonly climbed = new Map<number, { at: number; predictedMs: number }>();
  private readonly failed = new Map<number, Failed>();

  /**
   * `expectedMs`: latency of each allowed core count on the idle machine; only their ratios matter. `budgetMs`: what the
   * model may take for a frame; `frameBudgetMs`: what a frame may take from its capture to its result, of which the
   * model gets what the stages before it usually leave. An infinite one sets no limit.
   */
  constructor(
    expectedMs: ReadonlyMap<number, number>,
    readonly budgetMs: number,
    public coreCount: number,
    private readonly rules = RULES,
    private readonly frameBudgetMs = Infinity,
  ) {
    this.leftMs = Math.min(budgetMs, frameBudgetMs);
    if (!(this.leftMs > 0))
      throw new EdgeError(`A budget of ${this.leftMs} ms cannot be held.`, "Give a positive number of milliseconds.");
    this.counts = [...expectedMs.keys()].sort((a, b) => a - b);
    // More cores never cost less: what a noisy measurement says otherwise is levelled.
    let most = 0;
    for (const count of this.counts) {
      most = Math.max(most, expectedMs.get(count)!);
      this.expected.set(count, most);
    }
  }

  /** Takes the latency of one frame, and what it took before the model, and returns the core count for the next.
   * `now`: seconds, never decreasing. */
  observe(coreCount: number, latencyMs: number, now: number, beforeMs = 0): number {
    if (coreCount !== this.coreCount) return this.coreCount;
    this.loads.push(latencyMs / this.expected.get(coreCount)!);
    if (this.loads.length > this.rules.window) this.loads.shift();
    this.sinceMove += 1;
    if (this.frameBudgetMs < Infinity) {
      this.before.push(beforeMs);
      if (this.before.length > this.rules.window) this.before.shift();
    }
    if (now - this.movedAt < this.rules.interval || !this.leavesTime()) return this.coreCount;
    if (!this.down(now)) this.up(now);
    return this.coreCount;
  }

  /** Sets what the stages before the model leave it; whether they leave anything. */
  private leavesTime(): boolean {
    if (this.frameBudgetMs === Infinity) return true;
    const left = this.frameBudgetMs - quantile(this.before, this.rules.usual);
    this.leftMs = Math.min(this.budgetMs, left > 0 ? left : this.frameBudgetMs);
    return left > 0;
  }

  // ------------------------------------------------------------------------------------ down

  private down(now: number): boolean {
    let found = this.burst();
    if (!found.missed) found = this.scattered();
    if (!found.missed) return false;
    const { missed, frames, load } = found;
    const why = `${missed} of the last ${frames} frames took longer than ${this.leftMs} ms`;
    const smaller = this.counts.filter((count) => count < this.coreCount);
    if (!smaller.length) {
      if (now - this.helplessAt >= this.rules.longestBackoff) {
        this.helplessAt = now;
        this.note(now, this.coreCount, load, `${why}, and there is no smaller core count`);
      }
      return true;
    }
    const fitting = smaller.filter((count) => load * this.expected.get(count)! <= this.leftMs * this.rules.room);
    this.fail(now);
    this.move(now, fitting.length ? Math.max(...fitting) : Math.min(...smaller), load, why);
    return true;
  }

  /** Misses among the last few frames, how many these are, and the load of a typical miss; none if few. */
  private burst(): Misses {
    const recent = this.own(this.rules.burst);
    const missed = recent.filter((load) => load * this.expected.get(this.coreCount)! > this.leftMs);
    if (missed.length < this.rules.burstMisses) return NONE;
    return { missed: missed.length, frames: recent.length, load: quantile(missed, 0.5) };
  }

  /** The same of more frames, with the load of the slowest but a few. A frame that is late at every core count is
   * not a reason to move, and does not count. */
  private scattered(): Misses {
    const recent = this.own(this.rules.window);
    const fastest = Math.min(...this.expected.values());
    const missed = recent.filter(
      (load) => load * fastest <= this.leftMs && this.leftMs < load * this.expected.get(this.coreCount)!,
    );
    const enough = Math.max(this.rules.burstMisses, this.rules.missShare * recent.length);
    if (recent.length < this.rules.least || missed.length < enough) return NONE;
    return { missed: missed.length, frames: recent.length, load: quantile(recent, 1 - this.rules.missShare) };
  }

  /** The last loads that were measured at the current core count. */
  private own(count: number): number[] {
    const own = Math.min(count, this.sinceMove, this.loads.length);
    return this.loads.slice(this.loads.length - own);
  }

  /** Remembers that the current core count could not be held, if it was climbed to a short while ago. */
  private fail(now: number): void {
    const climbed = this.climbed.get(this.coreCount);
    if (!climbed || now - climbed.at > this.rules.probation) {
      this.failed.delete(this.coreCount);
      return;
    }
    const before = this.failed.get(this.coreCount);
    const backoff = before ? Math.min(2 * before.backoff, this.rules.longestBackoff) : this.rules.backoff;
    this.failed.set(this.coreCount, { until: now + backoff, backoff, predictedMs: climbed.predictedMs });
  }

  // -------------------------------------------------------------------------------------- up

  /** Climbs to the largest core count that would meet the budget with room to spare. */
  private up(now: number): void {
    if (this.sinceMove < this.rules.least) return;
    const load = quantile(this.loads, 1 - this.rules.missShare);
    for (const count of [...this.counts].reverse()) {
      if (count <= this.coreCount) return;
      const predictedMs = load * this.expected.get(count)!;
      if (predictedMs <= this.leftMs * this.rules.room && !this.barred(count, predictedMs, now)) {
        this.climbed.set(count, { at: now, predictedMs });
        this.move(now, count, load, `${count} cores would take ${predictedMs.toFixed(1)} ms`);
        return;
      }
    }
  }

  /** Whether this core count, or a smaller one, failed a short while ago under no more load than now. */
  private barred(count: number, predictedMs: number, now: number): boolean {
    return [...this.failed].some(
      ([other, failed]) =>
        count >= other &&
        now < failed.until &&
        predictedMs >
          (this.rules.relief * failed.predictedMs * this.expected.get(count)!) / this.expected.get(other)!,
    );
  }

  private move(now: number, count: number, load: number, reason: string): void {
    this.note(now, count, load, reason);
    this.coreCount = count;
    this.movedAt = now;
    this.sinceMove = 0;
  }

  private note(at: number, after: number, load: number, reason: string): void {
    const predictedMs = load * this.expected.get(after)!;
    this.log.push({ at, before: this.coreCount, after, load, predictedMs, reason });
    if (this.log.length > MOST_LOGGED) this.log.shift();
  }
}

/** The value that `share` of the values do not exceed. */
function quantile(values: readonly number[], share: number): number {
  const ordered = [...values].sort((a, b) => a - b);
  return ordered[Math.min(ordered.length - 1, Math.trunc(share * ordered.length))];
}
