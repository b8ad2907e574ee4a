/**
 * Keeps the page and the bundle for offline use. What can change (the page itself, the manifest) is asked for first
 * and taken from the cache when nobody answers; files whose address holds their digest come from the cache.
 */

/** The page's files and their version; the build fills them in. */
declare const PAGE_FILES: string[];
declare const PAGE_VERSION: string;

const scope = self as unknown as ServiceWorkerGlobalScope;
// Caches are the origin's: pages in other folders of it have their own.
const HERE = new URL(scope.registration.scope).pathname;
const PAGE = `veca-edge-page-${PAGE_VERSION} ${HERE}`;
const BUNDLE = `veca-edge-bundle ${HERE}`;
const MANIFEST = "bundle/manifest.json";

scope.addEventListener("install", (event) => {
  event.waitUntil(
    (async () => {
      const cache = await caches.open(PAGE);
      await cache.addAll(["./", ...PAGE_FILES]);
      await scope.skipWaiting();
    })(),
  );
});

scope.addEventListener("activate", (event) => {
  event.waitUntil(
    (async () => {
      for (const name of await caches.keys())
        if (name.startsWith("veca-edge-page-") && name.endsWith(` ${HERE}`) && name !== PAGE) await caches.delete(name);
      await scope.clients.claim();
    })(),
  );
});

scope.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  const root = new URL(scope.registration.scope);
  if (event.request.method !== "GET" || url.origin !== root.origin) return;
  const path = url.pathname.slice(root.pathname.length);
  if (path.startsWith("measure")) return;
  if (url.searchParams.has("sha256")) event.respondWith(keptFirst(event.request, BUNDLE));
  else if (path === MANIFEST) event.respondWith(askedFirst(event.request, BUNDLE));
  else if (path.startsWith("assets/")) event.respondWith(keptFirst(event.request, PAGE));
  else if (event.request.mode === "navigate" || PAGE_FILES.includes(path))
    event.respondWith(askedFirst(event.request, PAGE));
});

async function keptFirst(request: Request, name: string): Promise<Response> {
  const cache = await caches.open(name);
  const found = await cache.match(request);
  if (found) return isolated(found);
  const response = await fetch(request);
  if (response.ok) await cache.put(request, response.clone());
  return isolated(response);
}

async function askedFirst(request: Request, name: string): Promise<Response> {
  const cache = await caches.open(name);
  try {
    const response = await fetch(request);
    if (response.ok) await cache.put(request, response.clone());
    return isolated(response);
  } catch (error) {
    const found = await cache.match(request, { ignoreSearch: true });
    if (found) return isolated(found);
    throw error;
  }
}

/** With the headers that threads need, which a plain file server does not send. */
function isolated(response: Response): Response {
  if (response.status === 0 || response.headers.get("Cross-Origin-Embedder-Policy")) return response;
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}
