// The page without a network: its small files are kept and renewed; what has a hash in its address is put there by the page.

const SHELL = [
  "./", "index.html", "page.css", "icon.svg", "page.json", "page.js", "brush.js", "changes.js", "engine.js", "exits.js", "fetching.js", "chart.js", "curve.js", "details.js",
  "parts.js", "picture.js", "piles.js", "record.js", "resize.js", "scores.js", "show.js", "stage.js", "story.js", "teach.js", "threshold.js", "worker.js", "yours.js",
];
const opened = () => caches.open(`dmpo-explore ${new URL(self.registration.scope).pathname}`);

self.addEventListener("install", (event) => {
  event.waitUntil(opened().then((cache) => cache.addAll(SHELL)).then(() => self.skipWaiting()));
});
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

const answer = async (request) => {
  const cache = await opened();
  try {
    const response = await fetch(request);
    if (response.ok && !new URL(request.url).search) await cache.put(request, response.clone()).catch(() => {}); // no room
    return response;
  } catch (error) {
    const kept = await cache.match(request);
    if (kept) return kept;
    throw error;
  }
};

self.addEventListener("fetch", (event) => {
  const { request } = event, { origin, search } = new URL(request.url);
  if (request.method !== "GET" || origin !== location.origin || search) return;
  event.respondWith(answer(request));
});
