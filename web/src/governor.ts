/**
 * Holds latency budgets by moving between core counts: the same rules as `runtime/governor.py`, which explains them.
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

/** What a frame took before the model, in milliseconds by stage. */
export type Before = Readonly<Record<string, number>>;

/** What the model may take for a frame, and what the frame may take from its capture to its result; null: no limit. */
export interface Budgets {
  modelMs: number | null;
  frameMs: number | null;
}

/**
 * One move, or the finding that there is none to make: then `before` and `after` are the same. `stage` is what binds:
 * `model`, or the stage that takes most of the frame's budget before it.
 */
export interface Decision {
  at: number;
  before: number;
  after: number;
  load: number;
  predictedMs: number;
  reason: string;
  stage: string;
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
  private readonly loads: number[] = [];
  private readonly before: Before[] = [];
  private sinceMove = 0;
  private movedAt = -Infinity;
  private helplessAt = -Infinity;
  private readonly climbed = new Map<number, { at: number; predictedMs: number }>();
  private readonly failed = new Map<number, Failed>();

  /** What the model may take: its own budget, or what the stages before it leave of the frame's. */
  private budgetMs: number;

  /** `expectedMs`: latency of each allowed core count on the idle machine; only their ratios matter. */
  constructor(
    expectedMs: ReadonlyMap<number, number>,
    private readonly budgets: Budgets,
    public coreCount: number,
    private readonly rules = RULES,
  ) {
    const { modelMs, frameMs } = budgets;
    for (const ms of [modelMs, frameMs])
      if (ms !== null && !(ms > 0))
        throw new EdgeError(`A budget of ${ms} ms cannot be held.`, "Give a positive number of milliseconds.");
    if (modelMs === null && frameMs === null)
      throw new EdgeError("There is no budget to hold.", "Give one for the model, for the frame, or both.");
    this.budgetMs = Math.min(modelMs ?? Infinity, frameMs ?? Infinity);
    this.counts = [...expectedMs.keys()].sort((a, b) => a - b);
    // More cores never cost less: what a noisy measurement says otherwise is levelled.
    let most = 0;
    for (const count of this.counts) {
      most = Math.max(most, expectedMs.get(count)!);
      this.expected.set(count, most);
    }
  }

  /** Whether these are its budgets. */
  holds({ modelMs, frameMs }: Budgets): boolean {
    return this.budgets.modelMs === modelMs && this.budgets.frameMs === frameMs;
  }

  /**
   * Takes the latency of one frame and returns the core count for the next.
   *
   * `now`: seconds, never decreasing. `before`: what the frame took before the model.
   */
  observe(coreCount: number, latencyMs: number, now: number, before: Before = {}): number {
    if (coreCount !== this.coreCount) return this.coreCount;
    this.keep(this.loads, latencyMs / this.expected.get(coreCount)!);
    this.sinceMove += 1;
    const { frameMs } = this.budgets;
    if (frameMs !== null) this.keep(this.before, before);
    if (now - this.movedAt < this.rules.interval) return this.coreCount;
    if (frameMs !== null && !this.leaveForModel(now, frameMs)) return this.coreCount;
    if (!this.down(now)) this.up(now);
    return this.coreCount;
  }

  private keep<T>(values: T[], value: T): void {
    values.push(value);
    if (values.length > this.rules.window) values.shift();
  }

  // ----------------------------------------------------------------------- the frame's budget

  /** Sets what the stages before the model leave it; whether they leave anything. */
  private leaveForModel(now: number, frameMs: number): boolean {
    const left = frameMs - this.usual((stages) => Object.values(stages).reduce((a, b) => a + b, 0));
    this.budgetMs = Math.min(this.budgets.modelMs ?? Infinity, left > 0 ? left : frameMs);
    if (left > 0) return true;
    if (this.before.length >= this.rules.burst && this.isTimeToSay(now)) {
      const stage = this.slowestBefore();
      const taken = this.usual((stages) => stages[stage] ?? 0).toFixed(1);
      const why = `${stage} takes ${taken} of ${short(frameMs)} ms: no core count can help`;
      this.note(now, this.coreCount, this.loads[this.loads.length - 1], why, stage);
    }
    return false;
  }

  private usual(of: (stages: Before) => number): number {
    return quantile(this.before.map(of), this.rules.usual);
  }

  /** The stage before the model that takes most. */
  private slowestBefore(): string {
    const sums = new Map<string, number>();
    for (const stages of this.before)
      for (const [stage, ms] of Object.entries(stages)) sums.set(stage, (sums.get(stage) ?? 0) + ms);
    const names = [...sums.keys()].sort();
    return names.length ? names.reduce((a, b) => (sums.get(b)! > sums.get(a)! ? b : a)) : "model";
  }

  /** What the model may take, in words. */
  private limit(): string {
    const { modelMs, frameMs } = this.budgets;
    if (frameMs === null || this.budgetMs >= (modelMs ?? Infinity)) return `${short(this.budgetMs)} ms`;
    const left = this.budgetMs.toFixed(1);
    return `the ${left} ms that ${this.slowestBefore()} and the rest leave of ${short(frameMs)} ms`;
  }

  /** Whether it was not said a short while ago that nothing can be done; from now on it was. */
  private isTimeToSay(now: number): boolean {
    if (now - this.helplessAt < this.rules.longestBackoff) return false;
    this.helplessAt = now;
    return true;
  }

  // ------------------------------------------------------------------------------------ down

  private down(now: number): boolean {
    let found = this.burst();
    if (!found.missed) found = this.scattered();
    if (!found.missed) return false;
    const { missed, frames, load } = found;
    const why = `${missed} of the last ${frames} frames took longer than ${this.limit()}`;
    const smaller = this.counts.filter((count) => count < this.coreCount);
    if (!smaller.length) {
      if (this.isTimeToSay(now)) this.note(now, this.coreCount, load, `${why}, and there is no smaller core count`);
      return true;
    }
    const fitting = smaller.filter((count) => load * this.expected.get(count)! <= this.budgetMs * this.rules.room);
    this.fail(now);
    this.move(now, fitting.length ? Math.max(...fitting) : Math.min(...smaller), load, why);
    return true;
  }

  /** Misses among the last few frames, how many these are, and the load of a typical miss; none if few. */
  private burst(): Misses {
    const recent = this.own(this.rules.burst);
    const missed = recent.filter((load) => load * this.expected.get(this.coreCount)! > this.budgetMs);
    if (missed.length < this.rules.burstMisses) return NONE;
    return { missed: missed.length, frames: recent.length, load: quantile(missed, 0.5) };
  }

  /** The same of more frames, with the load of the slowest but a few. A frame that is late at every core count is
   * not a reason to move, and does not count. */
  private scattered(): Misses {
    const recent = this.own(this.rules.window);
    const fastest = Math.min(...this.expected.values());
    const missed = recent.filter(
      (load) => load * fastest <= this.budgetMs && this.budgetMs < load * this.expected.get(this.coreCount)!,
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
      if (predictedMs <= this.budgetMs * this.rules.room && !this.barred(count, predictedMs, now)) {
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

  private note(at: number, after: number, load: number, reason: string, stage = "model"): void {
    const predictedMs = load * this.expected.get(after)!;
    this.log.push({ at, before: this.coreCount, after, load, predictedMs, reason, stage });
    if (this.log.length > MOST_LOGGED) this.log.shift();
  }
}

/** As Python's `:g` says it. */
function short(value: number): string {
  return String(Number(value.toPrecision(6)));
}

/** The value that `share` of the values do not exceed. */
function quantile(values: readonly number[], share: number): number {
  const ordered = [...values].sort((a, b) => a - b);
  return ordered[Math.min(ordered.length - 1, Math.trunc(share * ordered.length))];
}
