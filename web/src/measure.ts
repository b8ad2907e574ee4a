/** The page that measures: takes turns from the command line until there are none left. */

import { EdgeError } from "./errors";
import { alertOf, element, status } from "./page";
import { percentile } from "./patches";
import { defaultThreads } from "./runtime";
import type { Answer, FromSampler, Turn } from "./turn";

/** Of onnxruntime-web; the build fills it in. */
declare const RUNTIME_VERSION: string;

const ALIVE_MS = 3000;
// A network that is lost is tried again as long as the command line waits for the page.
const AGAIN_MS = 2000;
const PATIENCE_MS = 600_000;
const KEY = "veca-edge-identity";

interface UserAgentData {
  brands: { brand: string; version: string }[];
  platform: string;
}

/** The same for this browser whenever it opens the page, so that a measurement goes on. */
function identityOf(): string {
  const found = localStorage.getItem(KEY) ?? crypto.randomUUID();
  localStorage.setItem(KEY, found);
  return found;
}

const identity = identityOf();
/** Whether the page was not seen, or slept, since the turn began. */
let wasHidden = false;
document.addEventListener("freeze", () => (wasHidden = true));
document.addEventListener("visibilitychange", () => {
  wasHidden ||= document.hidden;
  if (!document.hidden) void stayAwake();
});

/** A phone's screen would go dark, and the page with it. Browsers end this when the page is left. */
async function stayAwake(): Promise<void> {
  await navigator.wakeLock?.request("screen").catch(() => undefined);
}

function facts() {
  const known = navigator as Navigator & { userAgentData?: UserAgentData; deviceMemory?: number };
  const agent = known.userAgentData;
  const brand = agent?.brands.find(({ brand }) => !/not.?a.?brand|chromium/i.test(brand.replaceAll(/[^a-z]/gi, ""))) ??
    agent?.brands.find(({ brand }) => brand === "Chromium");
  const firefox = /Firefox\/(\d+)/.exec(navigator.userAgent);
  const safari = /Version\/(\d+[.\d]*).*Safari/.exec(navigator.userAgent);
  const named = firefox ? `Firefox ${firefox[1]}` : safari ? `Safari ${safari[1]}` : "unknown browser";
  return {
    identity,
    browser: brand ? `${brand.brand} ${brand.version}` : named,
    system: agent?.platform || navigator.platform || "unknown system",
    runtime: RUNTIME_VERSION,
    cores: navigator.hardwareConcurrency,
    threads: defaultThreads(),
    memory_gb: known.deviceMemory ?? 0,
  };
}

async function post<T>(name: string, said: object): Promise<T> {
  const response = await sent(name, said);
  const answer = (await response.json()) as T & { message?: string; hint?: string };
  if (!response.ok) throw new EdgeError(answer.message ?? `It says ${response.status}.`, answer.hint);
  return answer;
}

/** Sends until somebody answers: a network may be lost for a while, and an answer must not be lost with it. */
async function sent(name: string, said: object): Promise<Response> {
  const body = JSON.stringify({ identity, ...said });
  for (let since: number | null = null; ; ) {
    try {
      const response = await fetch(`measure/${name}`, { method: "POST", body });
      if (since === null || name === "hello" || response.ok) return response;
      // A command line that was started anew in between does not know this browser yet.
      since = null;
      await post("hello", facts());
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      since ??= performance.now();
      if (performance.now() - since > PATIENCE_MS)
        throw new EdgeError("The command line has ended.", "Run it again, then load this page again: it goes on.");
      status("The command line does not answer; it is asked again until it does");
      await new Promise((done) => setTimeout(done, AGAIN_MS));
    }
  }
}

async function main(): Promise<void> {
  void stayAwake();
  await post("hello", facts());
  setInterval(() => void answers(), ALIVE_MS);
  addEventListener("pagehide", () => navigator.sendBeacon("measure/left", JSON.stringify({ identity })));
  for (;;) {
    status("Waiting for the next turn");
    const { turn, is_done } = await post<{ turn?: Turn | null; is_done?: boolean }>("next", {});
    if (is_done) break;
    if (!turn) continue;
    status(`Measuring ${turn.name}`);
    wasHidden = document.hidden;
    const said = await sampledAgain(turn);
    if ("answer" in said) {
      show(turn, said.answer);
      await post("answer", { id: turn.id, answer: { ...said.answer, was_hidden: wasHidden } });
    } else await post("failed", { id: turn.id, message: said.message });
  }
  status("Done: everything was measured. This page can be closed.");
}

/** A turn that failed is taken once more, and again after the network was lost in it. */
async function sampledAgain(turn: Turn): Promise<FromSampler> {
  for (let tries = 0; ; tries++) {
    const said = await sampled(turn);
    if ("answer" in said || (tries > 0 && (await answers()))) return said;
    await post("alive", {});
    status(`Measuring ${turn.name}`);
  }
}

/** Whether the command line answers now. */
async function answers(): Promise<boolean> {
  return fetch("measure/alive", { method: "POST", body: JSON.stringify({ identity }) }).then(
    () => true,
    () => false,
  );
}

function sampled(turn: Turn): Promise<FromSampler> {
  const worker = new Worker(new URL("./sampler.ts", import.meta.url), { type: "module" });
  return new Promise<FromSampler>((done) => {
    worker.onmessage = (event: MessageEvent<FromSampler>) => done(event.data);
    worker.onerror = (event) => done({ message: event.message || "its worker ended" });
    worker.postMessage({ turn, base: document.baseURI });
  }).finally(() => worker.terminate());
}

function show(turn: Turn, answer: Answer): void {
  const row = document.createElement("tr");
  const name = document.createElement("th");
  name.setAttribute("scope", "row");
  name.textContent = turn.name;
  row.append(name);
  const samples = answer.samples_ms.length ? answer.samples_ms : answer.windows.map((window) => window[2]);
  for (const value of [answer.load_ms, answer.first_ms, percentile(samples, 50)]) {
    const cell = document.createElement("td");
    cell.textContent = value.toFixed(1);
    row.append(cell);
  }
  element("rounds").append(row);
}

main().catch((error: unknown) => {
  status("Ended");
  alertOf(error);
});
