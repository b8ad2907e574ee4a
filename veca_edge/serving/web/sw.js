var l = ["assets/index-91yFbKgX.js", "assets/measure-WMufzz6i.js", "assets/ort-wasm-simd-threaded-DcHrbrbl.wasm", "assets/ort-wasm-simd-threaded-qyIweqWS.mjs", "assets/ort.wasm.min-COgC6scJ.js", "assets/ort.webgpu.min-SA5ryL1s.js", "assets/patches-930ej_iT.js", "assets/patches-CyLGCdMd.css", "assets/sampler-COU8Niqo.js", "assets/worker-DbO2YXPd.js", "index.html", "licenses.txt"];
const i = self, o = new URL(i.registration.scope).pathname, n = `veca-edge-page-66562a09ae8d ${o}`, d = `veca-edge-bundle ${o}`, w = "bundle/manifest.json";
i.addEventListener("install", (s) => {
  s.waitUntil(
    (async () => {
      await (await caches.open(n)).addAll(["./", ...l]), await i.skipWaiting();
    })()
  );
});
i.addEventListener("activate", (s) => {
  s.waitUntil(
    (async () => {
      for (const t of await caches.keys())
        t.startsWith("veca-edge-page-") && t.endsWith(` ${o}`) && t !== n && await caches.delete(t);
      await i.clients.claim();
    })()
  );
});
i.addEventListener("fetch", (s) => {
  const t = new URL(s.request.url), a = new URL(i.registration.scope);
  if (s.request.method !== "GET" || t.origin !== a.origin) return;
  const e = t.pathname.slice(a.pathname.length);
  e.startsWith("measure") || (t.searchParams.has("sha256") ? s.respondWith(h(s.request, d)) : e === w ? s.respondWith(u(s.request, d)) : e.startsWith("assets/") ? s.respondWith(h(s.request, n)) : (s.request.mode === "navigate" || l.includes(e)) && s.respondWith(u(s.request, n)));
});
async function h(s, t) {
  const a = await caches.open(t), e = await a.match(s);
  if (e) return c(e);
  const r = await fetch(s);
  return r.ok && await a.put(s, r.clone()), c(r);
}
async function u(s, t) {
  const a = await caches.open(t);
  try {
    const e = await fetch(s);
    return e.ok && await a.put(s, e.clone()), c(e);
  } catch (e) {
    const r = await a.match(s, { ignoreSearch: !0 });
    if (r) return c(r);
    throw e;
  }
}
function c(s) {
  if (s.status === 0 || s.headers.get("Cross-Origin-Embedder-Policy")) return s;
  const t = new Headers(s.headers);
  return t.set("Cross-Origin-Opener-Policy", "same-origin"), t.set("Cross-Origin-Embedder-Policy", "require-corp"), new Response(s.body, { status: s.status, statusText: s.statusText, headers: t });
}
