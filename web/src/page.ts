/** Elements of a page by their id, and its messages. */

import { told } from "./errors";

export function element<T extends HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new Error(`The page has no element ${id}.`);
  return found as T;
}

export function status(text: string): void {
  element("status").textContent = text;
}

/** Whether the failure that is shown is one frame's. */
let isOfFrame = false;

/** Shows a failure until the next call; null takes it away. */
export function alertOf(error: unknown): void {
  isOfFrame = false;
  const box = element("alert");
  element("trouble").hidden = error === null;
  if (error === null) {
    box.hidden = true;
    box.textContent = "";
    return;
  }
  const { message, hint } = told(error);
  box.textContent = hint ? `${message}\n${hint}` : message;
  box.hidden = false;
}

/** Shows the failure of one frame, until `frameSucceeded`. */
export function alertOfFrame(error: unknown): void {
  alertOf(error);
  isOfFrame = true;
}

/** A frame's failure is over with the next one that succeeds; others stay. */
export function frameSucceeded(): void {
  if (isOfFrame) alertOf(null);
}

/** A select's options; the first is chosen. */
export function fill(select: HTMLSelectElement, options: readonly (readonly [value: string, text: string])[]): void {
  select.replaceChildren(
    ...options.map(([value, text]) => {
      const made = document.createElement("option");
      made.value = value;
      made.textContent = text;
      return made;
    }),
  );
}
