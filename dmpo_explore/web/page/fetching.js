// Files of the page: in its folder, checked against their hashes and kept for visits without a network where the browser
// permits it; or in the page's own text.

/** page.json. */
export const filesOf = async () => {
  const inside = document.getElementById("data");
  if (inside) return JSON.parse(inside.textContent);
  const response = await fetch("page.json");
  if (!response.ok) throw new Error(`page.json: the server answers ${response.status}`);
  return response.json();
};

/** The cache of this page; null where a page may not keep files (an address without https). */
export const kept = async () => {
  try {
    return await caches.open(`dmpo-explore ${new URL("./", location).pathname}`);
  } catch {
    return null;
  }
};

// The hash is a part of the address: a page that was replaced never meets files of the earlier one.
const addressOf = (file) => new URL(`${file.url}?${file.integrity.replace(/\W/g, "").slice(6, 22)}`, location).href;

/** Whether a file is here from an earlier visit. */
export const isKept = async (file) => Boolean(await (await kept())?.match(addressOf(file)));

/** A file's bytes; `progress` is called with bytes done. Throws where it cannot be loaded or has another hash. */
export const bytesOf = async (file, progress = () => {}) => {
  if (file.data) return unpacked(file, Uint8Array.from(atob(file.data), (letter) => letter.charCodeAt(0)).buffer);
  const cache = await kept(), address = addressOf(file), here = await cache?.match(address);
  if (here) return unpacked(file, await here.arrayBuffer());
  const response = await fetch(address, { integrity: file.integrity }).catch(() => {
    throw new Error(`${file.url} is not there, or not the file of this page`);
  });
  if (!response.ok) throw new Error(`${file.url}: the server answers ${response.status}`);
  const parts = [], reader = response.body.getReader();
  let done = 0;
  for (;;) {
    const part = await reader.read();
    if (part.done) break;
    parts.push(part.value);
    progress((done += part.value.length));
  }
  const blob = new Blob(parts), type = response.headers.get("content-type") ?? "application/octet-stream";
  await cache?.put(address, new Response(blob, { headers: { "content-type": type } })).catch(() => {}); // no room
  return unpacked(file, await blob.arrayBuffer());
};

const unpacked = async (file, bytes) => {
  if (!file.packed) return bytes;
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
};

/** Forget what an earlier page at this address kept. */
export const tidy = async (files) => {
  const cache = await kept(), known = new Set(files.map(addressOf));
  for (const request of (await cache?.keys()) ?? []) {
    if (new URL(request.url).search && !known.has(request.url)) await cache.delete(request);
  }
};
