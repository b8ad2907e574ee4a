/** How long the stages of the last frames took. */

import { percentile } from "./patches";
import type { Step } from "./protocol";

const RECENT = 120;
const REDRAWN_MS = 250;
const NAMES: Record<keyof Step["times"], string> = {
  capture: "Read pixels",
  prepare: "Crop and resize",
  model: "Model",
  draw: "Draw",
};

export class Times {
  private recent: Step["times"][] = [];
  private ends: number[] = [];
  private drawnAt = -Infinity;

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

  add(times: Step["times"]): void {
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
    const rows = (Object.keys(NAMES) as (keyof Step["times"])[]).map((stage) => {
      const values = this.recent.map((times) => times[stage]);
      return [NAMES[stage], ...[50, 95].map((p) => (values.length ? percentile(values, p).toFixed(1) : "-"))];
    });
    this.body.replaceChildren(...rows.map(rowOf));
    const seconds = (this.ends[this.ends.length - 1] - this.ends[0]) / 1000;
    this.speed.textContent =
      this.ends.length > 1 ? `${((this.ends.length - 1) / seconds).toFixed(1)} frames/s` : "No frames yet";
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
