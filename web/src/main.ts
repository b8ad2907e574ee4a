/** The page: controls, frames to the worker one after the other, and what comes back. */

import { EdgeError } from "./errors";
import { fetchBundle } from "./files";
import type { Budgets } from "./governor";
import { nameOf, type Bundle } from "./manifest";
import { keepBundle, startOffline } from "./offline";
import { alertOf, alertOfFrame, element, fill, frameSucceeded, status } from "./page";
import { SHOWN, type Show } from "./painter";
import type { Evidence, FromWorker, Loaded, Opened, Step, ToWorker } from "./protocol";
import { clearResults, showResults } from "./results";
import type { Backend } from "./runtime";
import { openCamera, openFile, type Listener, type Source } from "./sources";
import { TimeTable } from "./times";

/** For programs that drive the page: every step, with what the model took and gave. */
declare global {
  interface Window {
    vecaEdge: { onStep: ((step: Evidence & { coreCount: number }) => void) | null };
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
const stage = element("stage");
const again = element("again");
const camera = element<HTMLButtonElement>("camera");
const stop = element<HTMLButtonElement>("stop");
const file = element<HTMLInputElement>("file");

/** Each budget: whether it is held, and its milliseconds. */
const budgets = {
  modelMs: [element<HTMLInputElement>("hold"), element<HTMLInputElement>("budget")],
  frameMs: [element<HTMLInputElement>("hold-frame"), element<HTMLInputElement>("frame-budget")],
} as const;
const holds = Object.values(budgets).map(([hold]) => hold);

const LABELS: Record<Show, string> = {
  nothing: "The picture alone",
  segmentation: "Segmentation",
  depth: "Depth",
  pca: "Patch features (PCA)",
};

const worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
const tell = (message: ToWorker, transfer: Transferable[] = []) => worker.postMessage(message, transfer);
const times = new TimeTable(element("times"), element("speed"));

let bundle: Bundle | null = null;
/** Why the page is not kept for offline use, or null. */
let offline: Promise<string | null> = Promise.resolve(null);
/** Whether the browser has WebGPU. Asked once: another precision is loaded in the very moment it is chosen, so that
 * nothing is done with the one before. */
let hasGpu = false;
let opened: Opened | null = null;
/** With some core counts frames are answered; which one, and what is held, is chosen when all of them are there. */
let loaded: Loaded | null = null;
/** More of the model is being loaded in the worker. */
let isLoading = false;
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
  offline = startOffline();
  // Threads come with what it adds to the page, which is loaded once more then.
  if (!crossOriginIsolated) await offline;
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
  hasGpu = await findGpu();
  offerGpu();
  open();
}

/** Says whether the page works without its server from now on. */
async function keep(): Promise<void> {
  const why = (await offline) ?? (await keepBundle(bundle!).then(() => null, String));
  element("offline").textContent = why ? `Not kept for offline use: ${why}` : "Kept for offline use.";
}

async function findGpu(): Promise<boolean> {
  const gpu = (navigator as Navigator & { gpu?: { requestAdapter(): Promise<unknown> } }).gpu;
  return gpu !== undefined && (await gpu.requestAdapter().catch(() => null)) !== null;
}

/** WebGPU takes float models alone. */
function offerGpu(): void {
  const isOffered = hasGpu && precision.value !== "int8";
  element("backend-row").hidden = !isOffered;
  if (!isOffered) backend.value = "wasm";
}

function open(): void {
  opened = null;
  loaded = null;
  isLoading = false;
  alertOf(null);
  again.hidden = true;
  for (const control of [cores, precision, size, backend, show, ...holds]) control.disabled = true;
  status("Loading the model");
  const chosen = bundle!.variants.find((v) => nameOf(v.size) === size.value)!;
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
  for (const control of [precision, size, backend, show]) control.disabled = false;
  next();
}

function nowLoaded(message: Loaded): void {
  // Of a model that was left meanwhile.
  if (!opened) return;
  loaded = message;
  isLoading = false;
  const { coreCounts, total } = message;
  cores.max = String(coreCounts.length - 1);
  element("ticks").replaceChildren(...coreCounts.map(tick));
  showCores(coreCounts[coreCounts.length - 1]);
  if (!message.isReady) {
    status(`Loading the model: ${coreCounts.length} of ${total} core counts`);
    loadMore();
    return;
  }
  for (const hold of holds) hold.disabled = false;
  const threads = `${opened.threads} thread${opened.threads === 1 ? "" : "s"}`;
  status(
    `${precision.value.toUpperCase()} at ${size.value}, ${coreCounts.join(", ")} cores, ` +
      (backend.value === "webgpu" ? "on the GPU" : threads) +
      (crossOriginIsolated ? "" : "; the server sends no headers for more threads"),
  );
  steer();
  void keep();
}

/** A frame that waits comes first: what is seen early is the model's answer. */
function loadMore(): void {
  if (isLoading || isBusy || !loaded || loaded.isReady) return;
  isLoading = true;
  tell({ kind: "load" });
}

/** What is to be held. Throws `EdgeError` for what is no number of milliseconds. */
function budgetsAsked(): Budgets {
  const asked = { modelMs: null, frameMs: null } as Budgets;
  for (const name of ["modelMs", "frameMs"] as const) {
    const [hold, field] = budgets[name];
    if (!hold.checked) continue;
    if (!(Number(field.value) > 0))
      throw new EdgeError("The budget is not a number of milliseconds.", "Give one above 0.");
    asked[name] = Number(field.value);
  }
  return asked;
}

const isGoverned = () => holds.some((hold) => hold.checked);

function steer(): void {
  if (!loaded) return;
  alertOf(null);
  let asked: Budgets;
  try {
    asked = budgetsAsked();
  } catch (error) {
    alertOf(error);
    return;
  }
  cores.disabled = isGoverned() || loaded.coreCounts.length < 2;
  const coreCount = loaded.coreCounts[Number(cores.value)];
  if (!isGoverned()) {
    showCores(coreCount);
    element("decision").textContent = "";
  }
  tell({ kind: "steer", coreCount, budgets: asked });
  redraw();
}

function showCores(count: number): void {
  element("cores-shown").textContent = String(count);
  cores.setAttribute("aria-valuetext", `${count} core tokens`);
  if (loaded) cores.value = String(loaded.coreCounts.indexOf(count));
}

function tick(count: number): HTMLElement {
  const made = document.createElement("span");
  made.textContent = String(count);
  return made;
}

// -------------------------------------------------------------------------------------- frames

async function use(opening: () => Promise<Source>): Promise<void> {
  end();
  // What kept the model from being loaded still does.
  if (opened) alertOf(null);
  camera.disabled = file.disabled = true;
  try {
    source = await opening();
    element("source").textContent = source.name;
    stop.disabled = false;
    isFirst = true;
    clearResults();
    times.startOver();
    redraw();
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
  element("source").textContent = "No source";
}

/** Sends the frame of now, unless one is on its way. */
function next(): void {
  if (isBusy || !source || !opened) return;
  const from = source;
  isBusy = true;
  isStale = false;
  from.frame().then(
    (frame) => {
      if (source !== from) {
        rest();
        frame.bitmap.close();
        next();
        return;
      }
      const wantsEvidence = window.vecaEdge.onStep !== null;
      tell({ kind: "frame", frame, show: show.value as Show, isFirst, wantsEvidence }, [frame.bitmap]);
      isFirst = false;
    },
    (error: unknown) => {
      rest();
      // A source that has just been closed has no frame left.
      if (source === from) alertOfFrame(error);
      else next();
    },
  );
}

/** The worker has no frame. */
function rest(): void {
  isBusy = false;
  loadMore();
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
  frameSucceeded();
  element("hint").hidden = true;
  if (isGoverned()) showCores(step.coreCount);
  times.add(step.times);
  showResults(step);
  if (step.evidence) window.vecaEdge.onStep?.({ coreCount: step.coreCount, ...step.evidence });
}

// ------------------------------------------------------------------------------------- messages

worker.onmessage = (event: MessageEvent<FromWorker>) => {
  const message = event.data;
  switch (message.kind) {
    case "opened":
      ready(message);
      return;
    case "loaded":
      nowLoaded(message);
      return;
    case "step":
      rest();
      shown(message);
      if (source?.isLive() || isStale) next();
      return;
    case "failed": {
      const failure = new EdgeError(message.message, message.hint);
      if (!message.isFatal) {
        rest();
        alertOfFrame(failure);
        return;
      }
      opened = loaded = null;
      rest();
      alertOf(failure);
      status("No model is loaded");
      again.hidden = false;
      for (const control of [precision, size, backend]) control.disabled = false;
    }
  }
};
worker.onerror = (event) => alertOf(new EdgeError(`The page's worker ended: ${event.message}`, "Load the page again."));

const listener: Listener = {
  // A frame of a video that plays is taken when there is time for it; one that it was wound to is not left out.
  onFrame: () => (source?.isLive() ? next() : redraw()),
  onLost: (error) => {
    end();
    alertOf(error);
  },
};

function useFile(chosen: File | undefined): void {
  if (chosen) void use(() => openFile(chosen, video, listener));
}

camera.addEventListener("click", () => void use(() => openCamera(video, listener)));
stop.addEventListener("click", end);
file.addEventListener("change", () => {
  useFile(file.files?.[0]);
  // The same file may be chosen again.
  file.value = "";
});
for (const name of ["dragover", "dragleave", "drop"] as const)
  stage.addEventListener(name, (event) => {
    event.preventDefault();
    stage.classList.toggle("over", name === "dragover");
    if (name === "drop" && !file.disabled) useFile(event.dataTransfer?.files[0]);
  });
// What a page slept is no time of a frame.
document.addEventListener("visibilitychange", () => document.hidden || times.startOver());
cores.addEventListener("input", steer);
for (const [hold, field] of Object.values(budgets)) {
  hold.addEventListener("change", steer);
  field.addEventListener("change", () => hold.checked && steer());
}
precision.addEventListener("change", () => {
  offerGpu();
  open();
});
size.addEventListener("change", open);
// Without a bundle there is nothing to open yet.
again.addEventListener("click", () => (bundle ? open() : location.reload()));
backend.addEventListener("change", open);
show.addEventListener("change", redraw);

start().catch((error: unknown) => {
  status("Not ready");
  alertOf(error);
  again.hidden = false;
});
