/** The page: controls, frames to the worker one after the other, and what comes back. */

import { EdgeError } from "./errors";
import { fetchBundle } from "./files";
import { nameOf, type Bundle } from "./manifest";
import type { Values } from "./model";
import { keepBundle, startOffline } from "./offline";
import { alertOf, element, fill, status } from "./page";
import { SHOWN, type Show } from "./painter";
import type { FromWorker, Opened, Step, ToWorker } from "./protocol";
import type { Backend } from "./runtime";
import { openCamera, openFile, type Source } from "./sources";
import { Times } from "./times";

/** For programs that drive the page: every step with its outputs. */
declare global {
  interface Window {
    vecaEdge: { onStep: ((step: { coreCount: number; outputs: Record<string, Values> }) => void) | null };
  }
}
window.vecaEdge = { onStep: null };

const video = element<HTMLVideoElement>("video");
const canvas = element<HTMLCanvasElement>("picture");
const cores = element<HTMLInputElement>("cores");
const precision = element<HTMLSelectElement>("precision");
const size = element<HTMLSelectElement>("size");
const backend = element<HTMLSelectElement>("backend");
const show = element<HTMLSelectElement>("show");
const hold = element<HTMLInputElement>("hold");
const budget = element<HTMLInputElement>("budget");
const camera = element<HTMLButtonElement>("camera");
const stop = element<HTMLButtonElement>("stop");
const file = element<HTMLInputElement>("file");

const LABELS: Record<Show, string> = {
  nothing: "The picture alone",
  segmentation: "Segmentation",
  depth: "Depth",
  pca: "Patch features (PCA)",
};

const worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
const tell = (message: ToWorker, transfer: Transferable[] = []) => worker.postMessage(message, transfer);
const times = new Times(element("times"), element("speed"));

let bundle: Bundle;
let opened: Opened | null = null;
let source: Source | null = null;
let isFirst = true;
/** A frame is in the worker; the next one waits for it. */
let isBusy = false;
/** The picture changed, or is to be drawn otherwise, while one was in the worker. */
let isStale = false;

// ------------------------------------------------------------------------------------- the model

async function start(): Promise<void> {
  if (!isSecureContext)
    throw new EdgeError(
      "This page was opened without HTTPS, so the browser gives it neither camera nor threads.",
      "Open it over HTTPS, or on localhost.",
    );
  const notKept = await startOffline();
  bundle = await fetchBundle(document.baseURI);
  element("title").textContent = bundle.name;
  document.title = `${bundle.name} - veca-edge`;
  const precisions = [...new Set(bundle.variants.map((v) => v.precision))];
  const sizes = [...new Set(bundle.variants.map((v) => nameOf(v.size)))];
  fill(
    precision,
    precisions.map((name) => [name, name.toUpperCase()]),
  );
  fill(
    size,
    sizes.map((name) => [name, name.replace("x", " x ")]),
  );
  element("size-row").hidden = sizes.length < 2;
  await offerGpu();
  open();
  if (notKept) element("offline").textContent = notKept;
}

/** WebGPU takes float models alone, and not every browser has it. */
async function offerGpu(): Promise<void> {
  const gpu = (navigator as Navigator & { gpu?: { requestAdapter(): Promise<unknown> } }).gpu;
  const there = gpu !== undefined && (await gpu.requestAdapter().catch(() => null)) !== null;
  const isFloat = precision.value !== "int8";
  element("backend-row").hidden = !(there && isFloat);
  if (!(there && isFloat)) backend.value = "wasm";
}

function open(): void {
  opened = null;
  alertOf(null);
  for (const control of [cores, precision, size, backend, show, hold]) control.disabled = true;
  status("Loading the model");
  const chosen = bundle.variants.find((v) => nameOf(v.size) === size.value)!;
  tell({
    kind: "open",
    base: document.baseURI,
    choice: { precision: precision.value, size: chosen.size, backend: backend.value as Backend },
  });
}

function ready(message: Opened): void {
  opened = message;
  isFirst = true;
  times.startOver();
  cores.max = String(message.coreCounts.length - 1);
  cores.value = cores.max;
  showCores(message.coreCounts[message.coreCounts.length - 1]);
  const before = show.value;
  const shows = (Object.keys(SHOWN) as (keyof typeof SHOWN)[]).filter((name) => message.outputs.includes(SHOWN[name]));
  const options: Show[] = [...shows, "nothing"];
  fill(
    show,
    options.map((name) => [name, LABELS[name]]),
  );
  // Patch features are shown where the model says nothing else.
  const hasTask = message.outputs.includes("logits") && !shows.some((name) => name !== "pca");
  show.value = options.includes(before as Show) ? before : hasTask ? "nothing" : options[0];
  for (const control of [precision, size, backend, show, hold]) control.disabled = false;
  cores.disabled = hold.checked || message.coreCounts.length < 2;
  const threads = `${message.threads} thread${message.threads === 1 ? "" : "s"}`;
  status(
    `${precision.value.toUpperCase()} at ${size.value}, ${message.coreCounts.join(", ")} cores, ` +
      (backend.value === "webgpu" ? "on the GPU" : threads) +
      (crossOriginIsolated ? "" : "; the server sends no headers for more threads"),
  );
  steer();
  next();
  if (navigator.serviceWorker?.controller)
    keepBundle(bundle).then(
      () => (element("offline").textContent = "Kept for offline use."),
      (error: unknown) => (element("offline").textContent = `Not kept for offline use: ${String(error)}`),
    );
}

function steer(): void {
  if (!opened) return;
  const budgetMs = hold.checked ? Number(budget.value) : null;
  if (budgetMs !== null && !(budgetMs > 0)) {
    alertOf(new EdgeError("The budget is not a number of milliseconds.", "Give one above 0."));
    return;
  }
  alertOf(null);
  cores.disabled = hold.checked || opened.coreCounts.length < 2;
  const coreCount = opened.coreCounts[Number(cores.value)];
  if (!hold.checked) {
    showCores(coreCount);
    element("decision").textContent = "";
  }
  tell({ kind: "steer", coreCount, budgetMs });
  redraw();
}

function showCores(count: number): void {
  element("cores-shown").textContent = String(count);
  cores.setAttribute("aria-valuetext", `${count} core tokens`);
  if (opened) cores.value = String(opened.coreCounts.indexOf(count));
}

// -------------------------------------------------------------------------------------- frames

async function use(opening: () => Promise<Source>): Promise<void> {
  end();
  alertOf(null);
  camera.disabled = file.disabled = true;
  try {
    source = await opening();
    stop.disabled = false;
    isFirst = true;
    times.startOver();
    next();
  } catch (error) {
    alertOf(error);
  } finally {
    camera.disabled = file.disabled = false;
  }
}

function end(): void {
  source?.close();
  source = null;
  stop.disabled = true;
}

/** Sends the frame of now, unless one is on its way. */
function next(): void {
  if (isBusy || !source || !opened) return;
  const from = source;
  isBusy = true;
  isStale = false;
  from.frame().then(
    (bitmap) => {
      const wantsOutputs = window.vecaEdge.onStep !== null;
      tell({ kind: "frame", bitmap, show: show.value as Show, isFirst, wantsOutputs }, [bitmap]);
      isFirst = false;
    },
    (error: unknown) => {
      isBusy = false;
      // A source that has just been closed has no frame left.
      if (source === from) alertOf(error);
    },
  );
}

/** The same frame again, where no other comes by itself. */
function redraw(): void {
  isStale = true;
  next();
}

function shown(step: Step): void {
  const { picture } = step;
  if (canvas.width !== picture.width || canvas.height !== picture.height)
    [canvas.width, canvas.height] = [picture.width, picture.height];
  canvas.getContext("bitmaprenderer")!.transferFromImageBitmap(picture);
  element("hint").hidden = true;
  if (hold.checked) showCores(step.coreCount);
  times.add(step.times);
  showClasses(step);
  showLegend(step);
  if (step.decision) {
    const { before, after, reason } = step.decision;
    element("decision").textContent =
      before === after ? `Stays at ${after} cores: ${reason}.` : `${before} to ${after} cores: ${reason}.`;
  }
  if (step.outputs) window.vecaEdge.onStep?.({ coreCount: step.coreCount, outputs: step.outputs });
}

function showClasses(step: Step): void {
  element("classes-section").hidden = !step.classes.length;
  element("classes").replaceChildren(
    ...step.classes.map(({ name, share }) => item(`${name}  ${(100 * share).toFixed(1)}%`)),
  );
  const best = step.classes[0];
  const seen = step.legend.map((row) => row.name).join(", ");
  const said = [best && `${best.name} ${(100 * best.share).toFixed(0)}%`, seen && `with ${seen}`];
  canvas.setAttribute("aria-label", ["Picture", ...said.filter(Boolean)].join(": "));
}

function showLegend(step: Step): void {
  element("legend").replaceChildren(
    ...step.legend.map(({ name, share, colour }) => {
      const row = item(`${name}  ${(100 * share).toFixed(0)}%`);
      const swatch = document.createElement("span");
      swatch.className = "swatch";
      swatch.style.backgroundColor = `rgb(${colour.join(" ")})`;
      row.prepend(swatch);
      return row;
    }),
  );
  element("scale").hidden = !step.depthRange;
  if (step.depthRange) {
    const [near, far] = step.depthRange;
    element("near").textContent = near.toPrecision(3);
    element("far").textContent = `${far.toPrecision(3)} m`;
  }
}

function item(text: string): HTMLLIElement {
  const made = document.createElement("li");
  made.textContent = text;
  return made;
}

// ------------------------------------------------------------------------------------- messages

worker.onmessage = (event: MessageEvent<FromWorker>) => {
  const message = event.data;
  switch (message.kind) {
    case "progress":
      status(`Loading the model: ${message.done} of ${message.total} core counts`);
      return;
    case "opened":
      ready(message);
      return;
    case "step":
      isBusy = false;
      shown(message);
      if (source?.isLive() || isStale) next();
      return;
    case "failed":
      isBusy = false;
      alertOf(new EdgeError(message.message, message.hint));
      if (message.isFatal) {
        status("No model is loaded");
        for (const control of [precision, size, backend]) control.disabled = false;
      }
  }
};
worker.onerror = (event) => alertOf(new EdgeError(`The page's worker ended: ${event.message}`, "Load the page again."));

camera.addEventListener("click", () => void use(() => openCamera(video)));
stop.addEventListener("click", end);
file.addEventListener("change", () => {
  const chosen = file.files?.[0];
  if (chosen) void use(() => openFile(chosen, video));
});
for (const name of ["seeked", "play"]) video.addEventListener(name, redraw);
cores.addEventListener("input", steer);
hold.addEventListener("change", steer);
budget.addEventListener("change", () => hold.checked && steer());
precision.addEventListener("change", () => void offerGpu().then(open));
size.addEventListener("change", open);
backend.addEventListener("change", open);
show.addEventListener("change", redraw);

start().catch((error: unknown) => {
  status("Not ready");
  alertOf(error);
});
