// Keeps the files of this folder for use without a network. With a network the server's files are used, so that a
// change is seen at once. It also isolates the page from others, which WebAssembly with several threads requires.
"use strict";

const CACHE = "edgewright";
const ISOLATION = { "cross-origin-opener-policy": "same-origin", "cross-origin-embedder-policy": "require-corp", "cross-origin-resource-policy": "same-origin" };

async function keepAll() {
  const answer = await fetch("edgewright-files.json", { cache: "no-cache" });
  const { files } = await answer.json();
  const cache = await caches.open(CACHE);
  const names = Object.keys(files).map((name) => name.split("/").map(encodeURIComponent).join("/"));
  await Promise.all(["./", "edgewright-files.json", ...names].map(async (name) => {
    const found = await fetch(name, { cache: "no-cache" });
    if (found.ok) await cache.put(new URL(name, self.registration.scope), found);
  }));
}

async function answer(request) {
  const cache = await caches.open(CACHE);
  let found;
  try {
    found = await fetch(request, { cache: "no-cache" });
    if (found.ok && found.status === 200) await cache.put(request, found.clone());
  } catch (error) {
    found = await cache.match(request, { ignoreSearch: true });
    if (!found) throw error;
  }
  const headers = new Headers(found.headers);
  for (const [name, value] of Object.entries(ISOLATION)) headers.set(name, value);
  return new Response(found.body, { status: found.status, statusText: found.statusText, headers });
}

self.addEventListener("install", (event) => event.waitUntil(keepAll().then(() => self.skipWaiting())));
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method === "GET" && request.url.startsWith(self.registration.scope)) event.respondWith(answer(request));
});
