// Arrays that came once and stay while the slider moves: one component supplies them, the slider reads them by their key.

const supplies = (globalThis[Symbol.for("dmpo_explore.supplies")] ??= { kept: new Map(), waiting: new Set() });

// An event with its number, and that of the last one whose answer is drawn.
const numbered = (what) => {
  const events = (globalThis[Symbol.for("dmpo_explore.events")] ??= { sent: 0 });
  return { ...what, event: ++events.sent, answered: events.answered };
};

const KEY_LENGTH = 16; // of a message's beginning; the rest is JSON

// The bytes of a message; its key, from then on `kept`, names it.
const supply = (data) => {
  const text = (part) => new TextDecoder().decode(part), key = text(data.subarray(0, KEY_LENGTH));
  if (kept(key)) return;
  supplies.kept.set(key, JSON.parse(text(data.subarray(KEY_LENGTH))));
  while (supplies.kept.size > 18) supplies.kept.delete(supplies.kept.keys().next().value);
  for (const arrived of supplies.waiting) arrived();
};

// What came under a key. It is the newest from then on: what is drawn from is not dropped.
const kept = (key) => {
  const found = supplies.kept.get(key);
  if (found && supplies.kept.delete(key)) supplies.kept.set(key, found);
  return found;
};

// Little-endian numbers in base64 → a typed array of `kind`.
const unpacked = (text, kind) => {
  const bytes = atob(text), buffer = new Uint8Array(bytes.length);
  for (let i = 0; i < bytes.length; i++) buffer[i] = bytes.charCodeAt(i);
  return new kind(buffer.buffer);
};

const unpackedOnce = new WeakMap();

// `Pictures` or `Exits` of services/mosaic_data.py with their arrays.
const supplied = (key) => {
  const data = supplies.kept.get(key);
  if (!data || unpackedOnce.has(data)) return data && unpackedOnce.get(data);
  const kinds = { rows: Uint32Array, numbers: Uint32Array, labels: Uint16Array, answers: Uint16Array, confidence: Uint16Array, map: Uint16Array, near: Uint32Array, spots: Uint16Array };
  const limits = data.bytes === 2 ? Uint16Array : Uint8Array;
  const all = { ...kinds, scores: Uint8Array, limits, line: limits, exits: Uint8Array };
  const found = Object.fromEntries(
    Object.entries(data).map(([name, value]) => [name, name in all ? unpacked(value, all[name]) : value]),
  );
  unpackedOnce.set(data, found);
  return found;
};
