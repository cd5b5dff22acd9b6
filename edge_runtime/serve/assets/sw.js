// Keeps the page, and the model when asked to, so that both work without the station.
const SHELL = "sonoedge-page";
const PAGE = ["./", "style.css", "app.js", "assess.js", "remote.js", "local.js", "resize.js", "heat.js", "history.js", "camera.js",
  "icon.svg", "manifest.webmanifest"];

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
  try {
    const response = await fetch(request);
    if (response.ok) {
      const cache = await caches.open(SHELL);
      await cache.put(request, response.clone());
    }
    return response;
  } catch (error) {
    const kept = await caches.match(request);
    if (kept) return kept;
    throw error;
  }
}
