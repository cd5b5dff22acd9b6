// Keeps the page, and the model when asked to, so that both work without the station.
const SHELL = "sonoedge-page";
const PATIENCE = 3000; // ms
let probe = null;
const PAGE = ["./", "style.css", "icon.svg", "manifest.webmanifest", "app.js", "camera.js", "controls.js", "facts.js",
  "history.js", "offline.js", "stage.js", "model/assess.js", "model/heat.js", "model/local.js", "model/region.js",
  "model/remote.js", "model/resize.js", "model/smoothing.js"];

self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(SHELL).then((cache) => cache.addAll(PAGE)).then(() => self.skipWaiting()));
});

self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  if (event.request.method !== "GET" || url.origin !== location.origin) return;
  const relative = url.pathname.slice(new URL(self.registration.scope).pathname.length);
  if (relative.startsWith("bundle/") || relative.startsWith("litert/")) {
    // Named by digest in v1/bundle and checked against it: the kept copy is as good as the station's.
    event.respondWith(caches.match(event.request).then((kept) => kept ?? fetch(event.request)));
  } else if (PAGE.includes(relative || "./") || relative === "v1/bundle") {
    event.respondWith(stationFirst(event.request));
  }
});

async function stationFirst(request) {
  const kept = await caches.match(request);
  const fresh = fetchAndKeep(request);
  if (!kept) return fresh;
  return Promise.race([fresh.catch(() => kept), stationAnswers().then((answers) => (answers ? fresh : kept))]);
}

async function fetchAndKeep(request) {
  const response = await fetch(request);
  if (response.ok) {
    const copy = response.clone(), cache = await caches.open(SHELL);
    await cache.put(request, copy);
  }
  return response;
}

/** A machine that is off refuses nothing: a request to it hangs for minutes. One that starts or computes says so. */
function stationAnswers() {
  probe ??= fetch("healthz", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) })
    .then(() => true, () => false).finally(() => { probe = null; });
  return probe;
}
