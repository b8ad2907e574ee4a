/** How long the stages of the last frames took. */

import { percentile } from "./patches";
import type { Times } from "./protocol";

const RECENT = 120;
const REDRAWN_MS = 250;
const before = (times: Times) => times.waiting + times.reading + times.preparing;
const ROWS: [name: string, of: (times: Times) => number][] = [
  ["Waiting", (times) => times.waiting],
  ["Reading pixels", (times) => times.reading],
  ["Preparing", (times) => times.preparing],
  ["Model", (times) => times.model],
  ["Capture to result", (times) => before(times) + times.model],
  ["Drawing", (times) => times.drawing],
];

export class TimeTable {
  private recent: Times[] = [];
  private ends: number[] = [];
  private drawnAt = -Infinity;

  /** `speed`: what says how many frames a second there are, where they go on coming. */
  constructor(
    private readonly body: HTMLElement,
    private readonly speed: HTMLElement,
  ) {
    this.startOver();
  }

  startOver(): void {
    this.recent = [];
    this.ends = [];
    this.drawnAt = -Infinity;
    this.draw();
  }

  add(times: Times): void {
    const now = performance.now();
    this.recent.push(times);
    this.ends.push(now);
    if (this.recent.length > RECENT) {
      this.recent.shift();
      this.ends.shift();
    }
    // Text that changes with every frame can't be read.
    if (now - this.drawnAt < REDRAWN_MS) return;
    this.drawnAt = now;
    this.draw();
  }

  private draw(): void {
    const rows = ROWS.map(([name, of]) => {
      const values = this.recent.map(of);
      return [name, ...[50, 95].map((p) => (values.length ? percentile(values, p).toFixed(1) : "-"))];
    });
    this.body.replaceChildren(...rows.map(rowOf));
    const seconds = (this.ends[this.ends.length - 1] - this.ends[0]) / 1000;
    this.speed.hidden = !(seconds > 0);
    if (seconds > 0) this.speed.textContent = `${((this.ends.length - 1) / seconds).toFixed(1)} frames/s`;
  }
}

function rowOf(cells: readonly string[]): HTMLTableRowElement {
  const row = document.createElement("tr");
  cells.forEach((text, i) => {
    const cell = document.createElement(i ? "td" : "th");
    if (!i) cell.setAttribute("scope", "row");
    cell.textContent = text;
    row.append(cell);
  });
  return row;
}
