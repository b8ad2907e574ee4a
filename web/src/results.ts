/** What the page says of a frame beside its picture. */

import { element } from "./page";
import type { Step } from "./protocol";

export function showResults(step: Step): void {
  showClasses(step);
  showLegend(step);
  showDecision(step);
}

/** Of no frame. */
export function clearResults(): void {
  element("classes-section").hidden = element("scale").hidden = element("speed").hidden = true;
  element("legend").replaceChildren();
  element("decision").textContent = "";
}

function showClasses({ classes, legend }: Step): void {
  element("classes-section").hidden = !classes.length;
  element("classes").replaceChildren(
    ...classes.map(({ name, share }) => {
      const row = item(name, `${(100 * share).toFixed(1)}%`);
      row.style.setProperty("--share", String(share));
      return row;
    }),
  );
  const best = classes.length ? `${classes[0].name} ${(100 * classes[0].share).toFixed(0)}%` : "";
  const seen = legend.length ? `with ${legend.map((row) => row.name).join(", ")}` : "";
  element("picture").setAttribute("aria-label", ["Picture", best, seen].filter(Boolean).join(": "));
}

function showLegend({ legend, depthRange }: Step): void {
  element("legend").replaceChildren(
    ...legend.map(({ name, share, colour }) => {
      const row = item(name, `${(100 * share).toFixed(0)}%`);
      const swatch = document.createElement("span");
      swatch.className = "swatch";
      swatch.style.backgroundColor = `rgb(${colour.join(" ")})`;
      row.prepend(swatch);
      return row;
    }),
  );
  element("scale").hidden = !depthRange;
  if (!depthRange) return;
  const [near, far] = depthRange;
  element("near").textContent = near.toPrecision(3);
  element("far").textContent = `${far.toPrecision(3)} m`;
}

function showDecision({ decision }: Step): void {
  if (!decision) return;
  const { before, after, reason } = decision;
  element("decision").textContent =
    before === after ? `Stays at ${after} cores: ${reason}.` : `${before} to ${after} cores: ${reason}.`;
}

function item(name: string, share: string): HTMLLIElement {
  const made = document.createElement("li");
  const [said, number] = [document.createElement("span"), document.createElement("span")];
  said.textContent = name;
  number.textContent = share;
  number.className = "number";
  made.append(said, " ", number);
  return made;
}
