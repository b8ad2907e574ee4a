var u = ["assets/index-BvPr6vRr.js", "assets/measure-WMufzz6i.js", "assets/ort-wasm-simd-threaded-DcHrbrbl.wasm", "assets/ort-wasm-simd-threaded-qyIweqWS.mjs", "assets/ort.wasm.min-COgC6scJ.js", "assets/ort.webgpu.min-SA5ryL1s.js", "assets/patches-930ej_iT.js", "assets/patches-CyLGCdMd.css", "assets/sampler-COU8Niqo.js", "assets/worker-DbO2YXPd.js", "index.html", "licenses.txt"];
const r = self, c = "veca-edge-page-3f21a8efee83", o = "veca-edge-bundle", l = "bundle/manifest.json";
r.addEventListener("install", (s) => {
  s.waitUntil(
    (async () => {
      await (await caches.open(c)).addAll(["./", ...u]), await r.skipWaiting();
    })()
  );
});
r.addEventListener("activate", (s) => {
  s.waitUntil(
    (async () => {
      for (const e of await caches.keys())
        e.startsWith("veca-edge-page-") && e !== c && await caches.delete(e);
      await r.clients.claim();
    })()
  );
});
r.addEventListener("fetch", (s) => {
  const e = new URL(s.request.url), a = new URL(r.registration.scope);
  if (s.request.method !== "GET" || e.origin !== a.origin) return;
  const t = e.pathname.slice(a.pathname.length);
  t.startsWith("measure") || (e.searchParams.has("sha256") ? s.respondWith(d(s.request, o)) : t === l ? s.respondWith(h(s.request, o)) : t.startsWith("assets/") ? s.respondWith(d(s.request, c)) : (s.request.mode === "navigate" || u.includes(t)) && s.respondWith(h(s.request, c)));
});
async function d(s, e) {
  const a = await caches.open(e), t = await a.match(s);
  if (t) return n(t);
  const i = await fetch(s);
  return i.ok && await a.put(s, i.clone()), n(i);
}
async function h(s, e) {
  const a = await caches.open(e);
  try {
    const t = await fetch(s);
    return t.ok && await a.put(s, t.clone()), n(t);
  } catch (t) {
    const i = await a.match(s, { ignoreSearch: !0 });
    if (i) return n(i);
    throw t;
  }
}
function n(s) {
  if (s.status === 0 || s.headers.get("Cross-Origin-Embedder-Policy")) return s;
  const e = new Headers(s.headers);
  return e.set("Cross-Origin-Opener-Policy", "same-origin"), e.set("Cross-Origin-Embedder-Policy", "require-corp"), new Response(s.body, { status: s.status, statusText: s.statusText, headers: e });
}
