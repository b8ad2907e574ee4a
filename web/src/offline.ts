/** What makes the page load without its server: a service worker that keeps its files and the bundle's. */

import { addressOf } from "./files";
import type { Bundle } from "./manifest";

const KEPT = "veca-edge-bundle";

/**
 * Registers the service worker. A server that can't send the headers which threads need is helped by it: it adds them,
 * and the page is loaded once more.
 *
 * Returns why the page is not kept, or null.
 */
export async function startOffline(): Promise<string | null> {
  if (!("serviceWorker" in navigator)) return "This browser keeps no pages for offline use.";
  try {
    await navigator.serviceWorker.register("sw.js");
    await navigator.serviceWorker.ready;
  } catch (error) {
    return `The page is not kept for offline use: ${error instanceof Error ? error.message : String(error)}`;
  }
  if (!crossOriginIsolated && !sessionStorage.getItem("reloaded")) {
    sessionStorage.setItem("reloaded", "yes");
    location.reload();
  }
  return null;
}

/** Keeps every file of the bundle, and lets those of other bundles go. */
export async function keepBundle(bundle: Bundle): Promise<void> {
  const cache = await caches.open(KEPT);
  const wanted = new Set(bundle.variants.flatMap((v) => [v.file, ...v.weights]).map((file) => addressOf(file)));
  const base = document.baseURI;
  const urls = new Set([...wanted].map((address) => new URL(address, base).href));
  for (const request of await cache.keys())
    if (request.url.includes("sha256=") && !urls.has(request.url)) await cache.delete(request);
  for (const url of urls) {
    if (await cache.match(url)) continue;
    const response = await fetch(url);
    if (!response.ok) throw new Error(`${url} can't be loaded: ${response.status}`);
    if (!(await cache.match(url))) await cache.put(url, response);
  }
}
