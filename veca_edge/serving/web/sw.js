var u = ["assets/index-BbzQXCjr.js", "assets/measure-w1jIilnb.js", "assets/ort-wasm-simd-threaded-DcHrbrbl.wasm", "assets/ort-wasm-simd-threaded-qyIweqWS.mjs", "assets/ort.wasm.min-COgC6scJ.js", "assets/ort.webgpu.min-SA5ryL1s.js", "assets/patches-CyLGCdMd.css", "assets/patches-Ov3qWGNu.js", "assets/sampler-COU8Niqo.js", "assets/worker-DbO2YXPd.js", "index.html", "licenses.txt"];
const r = self, c = "veca-edge-page-db888d6a17cb", o = "veca-edge-bundle", l = "bundle/manifest.json";
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
      for (const t of await caches.keys())
        t.startsWith("veca-edge-page-") && t !== c && await caches.delete(t);
      await r.clients.claim();
    })()
  );
});
r.addEventListener("fetch", (s) => {
  const t = new URL(s.request.url), a = new URL(r.registration.scope);
  if (s.request.method !== "GET" || t.origin !== a.origin) return;
  const e = t.pathname.slice(a.pathname.length);
  e.startsWith("measure") || (t.searchParams.has("sha256") ? s.respondWith(d(s.request, o)) : e === l ? s.respondWith(h(s.request, o)) : e.startsWith("assets/") ? s.respondWith(d(s.request, c)) : (s.request.mode === "navigate" || u.includes(e)) && s.respondWith(h(s.request, c)));
});
async function d(s, t) {
  const a = await caches.open(t), e = await a.match(s);
  if (e) return n(e);
  const i = await fetch(s);
  return i.ok && await a.put(s, i.clone()), n(i);
}
async function h(s, t) {
  const a = await caches.open(t);
  try {
    const e = await fetch(s);
    return e.ok && await a.put(s, e.clone()), n(e);
  } catch (e) {
    const i = await a.match(s, { ignoreSearch: !0 });
    if (i) return n(i);
    throw e;
  }
}
function n(s) {
  if (s.status === 0 || s.headers.get("Cross-Origin-Embedder-Policy")) return s;
  const t = new Headers(s.headers);
  return t.set("Cross-Origin-Opener-Policy", "same-origin"), t.set("Cross-Origin-Embedder-Policy", "require-corp"), new Response(s.body, { status: s.status, statusText: s.statusText, headers: t });
}
