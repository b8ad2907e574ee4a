/** The page that measures: takes turns from the command line until there are none left. */

import { EdgeError } from "./errors";
import { alertOf, element, status } from "./page";
import { percentile } from "./patches";
import { defaultThreads } from "./runtime";
import type { Answer, FromSampler, Turn } from "./turn";

/** Of onnxruntime-web; the build fills it in. */
declare const RUNTIME_VERSION: string;

const ALIVE_MS = 3000;
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
let wasHidden = false;
document.addEventListener("visibilitychange", () => (wasHidden ||= document.hidden));

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
  let response: Response;
  try {
    response = await fetch(`measure/${name}`, { method: "POST", body: JSON.stringify({ identity, ...said }) });
  } catch {
    throw new EdgeError("The command line has ended.", "Run it again, then load this page again: it goes on.");
  }
  const answer = (await response.json()) as T & { message?: string; hint?: string };
  if (!response.ok) throw new EdgeError(answer.message ?? `It says ${response.status}.`, answer.hint);
  return answer;
}

async function main(): Promise<void> {
  await post("hello", facts());
  setInterval(() => void post("alive", {}).catch(() => undefined), ALIVE_MS);
  addEventListener("pagehide", () => navigator.sendBeacon("measure/left", JSON.stringify({ identity })));
  for (;;) {
    status("Waiting for the next turn");
    const { turn, is_done } = await post<{ turn?: Turn | null; is_done?: boolean }>("next", {});
    if (is_done) break;
    if (!turn) continue;
    status(`Measuring ${turn.name}`);
    wasHidden = document.hidden;
    const said = await sampled(turn);
    if ("answer" in said) {
      show(turn, said.answer);
      await post("answer", { id: turn.id, answer: { ...said.answer, was_hidden: wasHidden } });
    } else await post("failed", { id: turn.id, message: said.message });
  }
  status("Done: everything was measured. This page can be closed.");
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
