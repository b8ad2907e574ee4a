/** Everything that takes time: pixels of a frame, the model, and what is drawn over the frame. */

import { topClasses } from "./classes";
import { EdgeError, told } from "./errors";
import { fetchBundle } from "./files";
import { nameOf, type Bundle } from "./manifest";
import { Model } from "./model";
import { Painter } from "./painter";
import type { Choice, FromWorker, ToWorker } from "./protocol";
import { defaultThreads, Runtime } from "./runtime";
import { clock } from "./sources";

/** Frames are shown, and drawn on, with at most so many pixels along a side. */
const MOST_SHOWN = 1280;

const scope = self as unknown as DedicatedWorkerGlobalScope;
const say = (message: FromWorker, transfer: Transferable[] = []) => scope.postMessage(message, transfer);

interface Open {
  bundle: Bundle;
  model: Model;
  painter: Painter;
}

let open: Open | null = null;
// One message after the other: a model is not closed while it runs.
let queue = Promise.resolve();

scope.onmessage = (event: MessageEvent<ToWorker>) => {
  queue = queue.then(() =>
    handle(event.data).catch((error: unknown) => say({ kind: "failed", ...told(error), isFatal: open === null })),
  );
};

async function handle(message: ToWorker): Promise<void> {
  switch (message.kind) {
    case "open":
      return start(message.base, message.choice);
    case "load":
      return loadNext();
    case "steer":
      open?.model.steer(message.coreCount, message.budgets);
      return;
    case "frame":
      return run(message);
  }
}

async function start(base: string, choice: Choice): Promise<void> {
  await open?.model.close();
  open = null;
  const bundle = await fetchBundle(base);
  const variants = bundle.variants.filter(
    (v) => v.precision === choice.precision && nameOf(v.size) === nameOf(choice.size),
  );
  const threads = defaultThreads();
  const runtime = await Runtime.open(choice.backend, threads, base);
  const model = await Model.open(bundle, variants, runtime);
  open = { bundle, model, painter: new Painter(bundle, model.size) };
  say({ kind: "opened", outputs: model.outputs, threads });
  sayLoaded();
}

async function loadNext(): Promise<void> {
  const model = open?.model;
  if (!model) return;
  try {
    await model.loadNext();
  } catch (error) {
    // Some core counts without the others are not the bundle that was asked for.
    open = null;
    await model.close();
    throw error;
  }
  sayLoaded();
}

function sayLoaded(): void {
  if (!open) return;
  const { model } = open;
  say({ kind: "loaded", coreCounts: model.coreCounts, total: model.total, isReady: model.isReady });
}

async function run(message: Extract<ToWorker, { kind: "frame" }>): Promise<void> {
  const { bitmap, captured } = message.frame;
  if (!open) {
    bitmap.close();
    throw new EdgeError("No model is open.", "Load the page again.");
  }
  const { bundle, model, painter } = open;
  const start = clock();
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const pixels = context(canvas, true);
  // What is transparent is seen on black.
  pixels.fillRect(0, 0, canvas.width, canvas.height);
  pixels.drawImage(bitmap, 0, 0);
  const { data } = pixels.getImageData(0, 0, canvas.width, canvas.height);
  bitmap.close();
  const waiting = Math.max(0, start - captured);
  const reading = clock() - start;
  const { width: across, height: down } = canvas;
  const made = await model.run({ width: across, height: down, channels: 4, data }, { waiting, "reading pixels": reading });

  const drawing = clock();
  if (message.isFirst) painter.startOver();
  const scale = Math.min(1, MOST_SHOWN / Math.max(canvas.width, canvas.height));
  const width = Math.max(1, Math.round(canvas.width * scale));
  const height = Math.max(1, Math.round(canvas.height * scale));
  const shown = new OffscreenCanvas(width, height);
  const brush = context(shown, false);
  brush.drawImage(canvas, 0, 0, width, height);
  const overlay = message.show === "nothing" ? null : painter.paint(message.show, made.outputs, { width, height });
  if (overlay) {
    const layer = new OffscreenCanvas(width, height);
    context(layer, false).putImageData(new ImageData(overlay.pixels, width, height), 0, 0);
    brush.drawImage(layer, 0, 0);
  }
  const picture = shown.transferToImageBitmap();
  const logits = made.outputs.logits;
  say(
    {
      kind: "step",
      coreCount: made.coreCount,
      times: {
        waiting,
        reading,
        preparing: made.prepareMs,
        model: made.modelMs,
        drawing: clock() - drawing,
      },
      classes: logits ? topClasses(logits.data as Float32Array, bundle.labels) : [],
      legend: overlay?.legend ?? [],
      depthRange: overlay?.depthRange ?? null,
      picture,
      evidence: message.wantsEvidence
        ? { captured, pixels: { width: across, height: down, data }, prepared: made.frame, outputs: made.outputs }
        : null,
      decision: made.decision,
    },
    [picture],
  );
}

function context(canvas: OffscreenCanvas, isRead: boolean): OffscreenCanvasRenderingContext2D {
  const found = canvas.getContext("2d", { willReadFrequently: isRead });
  if (!found) throw new EdgeError("This browser gives no canvas to draw on.", "Close other tabs, or use another one.");
  return found;
}
