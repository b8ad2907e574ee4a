/** What makes the page load without its server: a service worker that keeps its files and the bundle's. */

import { addressOf, MANIFEST } from "./files";
import type { Bundle } from "./manifest";

/**
 * Registers the service worker. A server that can't send the headers which threads need is helped by it: it adds them,
 * and the page is loaded once more.
 *
 * Returns why the page is not kept, or null.
 */
export async function startOffline(): Promise<string | null> {
  if (!("serviceWorker" in navigator)) return "this browser keeps no pages.";
  try {
    await activated(await navigator.serviceWorker.register("sw.js"));
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
  if (!crossOriginIsolated && !sessionStorage.getItem("reloaded")) {
    sessionStorage.setItem("reloaded", "yes");
    location.reload();
    // Until then nothing else begins, and nothing is said that the next page would have to say again.
    await new Promise(() => undefined);
  }
  return null;
}

/** Until there is a service worker. Throws where it can't be installed, for which `ready` would wait for ever. */
async function activated(registration: ServiceWorkerRegistration | undefined): Promise<void> {
  const worker = registration?.active ?? registration?.waiting ?? registration?.installing;
  if (!worker) throw new Error("the browser runs no service worker");
  await new Promise<void>((done, failed) => {
    const look = () => {
      if (worker.state === "activated") done();
      if (worker.state === "redundant") failed(new Error("its files can't be stored"));
    };
    worker.addEventListener("statechange", look);
    look();
  });
}

/** Keeps every file of the bundle, and lets those of other bundles go. */
export async function keepBundle(bundle: Bundle): Promise<void> {
  const base = document.baseURI;
  // As the service worker calls it: caches are the origin's, and pages in other folders of it have their own.
  const cache = await caches.open(`veca-edge-bundle ${new URL(".", base).pathname}`);
  const wanted = new Set(bundle.variants.flatMap((v) => [v.file, ...v.weights]).map((file) => addressOf(file)));
  const urls = new Set([...wanted].map((address) => new URL(address, base).href));
  // It was fetched before there was a service worker.
  await cache.add(new URL(MANIFEST, base));
  for (const request of await cache.keys())
    if (request.url.includes("sha256=") && !urls.has(request.url)) await cache.delete(request);
  for (const url of urls) {
    if (await cache.match(url)) continue;
    const response = await fetch(url);
    if (!response.ok) throw new Error(`${url} can't be loaded: ${response.status}`);
    if (!(await cache.match(url))) await cache.put(url, response);
  }
}
