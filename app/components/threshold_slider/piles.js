// Where tiles stand: a pile for each exit, correct answers first, incorrect ones after them. Numbers alone, no drawing.

// Exit (from 0) of every image where the sliders stand at `places`; with `line`, where a single threshold stands there.
const exitsAt = (found, places, line, images, exits, into) => {
  const last = exits - 1;
  if (found.exits.length) return into.set(found.exits.subarray(places[0] * images, (places[0] + 1) * images));
  const limits = line && found.line.length ? found.line : found.limits, one = line || places.length < last;
  for (let i = 0, at = 0; i < images; i++, at += last) {
    let k = 0;
    while (k < last && places[one ? 0 : k] >= limits[at + k]) k++;
    into[i] = k;
  }
  return undefined;
};

// Images of every class at every exit, how many of it are correct there, and at the last exit: (classes, exits + 2); of
// `region` only.
const classTable = (pictures, exitOf, region) => {
  const { labels, answers, n_exits: exits } = pictures, table = new Uint32Array(pictures.names.length * (exits + 2));
  for (let i = 0; i < labels.length; i++) {
    if (region && !region[i]) continue;
    const row = labels[i] * (exits + 2);
    table[row + exitOf[i]] += 1;
    if (answers[i * exits + exitOf[i]] === labels[i]) table[row + exits] += 1;
    if (answers[i * exits + exits - 1] === labels[i]) table[row + exits + 1] += 1;
  }
  return table;
};

// Tiles keep their slot as long as it lies in their part of their pile; others take the free slots.
class Piles {
  constructor(tiles, exits) {
    this.exit = new Uint8Array(tiles).fill(255);
    this.yes = new Uint8Array(tiles);
    this.slot = new Int32Array(tiles);
    this.sizes = new Int32Array(exits);
    this.exits = exits;
  }

  // New exits and answers of the tiles; `moved(tile)` is called for each that changes its pile.
  update(exitOf, correct, moved) {
    const { exit, yes, slot, exits } = this, tiles = exit.length;
    const right = new Int32Array(exits), total = new Int32Array(exits);
    for (let i = 0; i < tiles; i++) {
      total[exitOf[i]] += 1;
      right[exitOf[i]] += correct[i];
    }
    const taken = Array.from(total, (n) => new Uint8Array(n)), homeless = [];
    for (let i = 0; i < tiles; i++) {
      const k = exitOf[i], from = correct[i] ? 0 : right[k], to = correct[i] ? right[k] : total[k];
      const stays = exit[i] === k && slot[i] >= from && slot[i] < to && !taken[k][slot[i]];
      if (stays) taken[k][slot[i]] = 1;
      else homeless.push(i);
      if (exit[i] !== k) moved(i);
    }
    const free = Array.from(total, (n, k) => [0, right[k]]); // the next slot to look at, correct and incorrect
    homeless.sort((a, b) => (exit[a] === exitOf[a] ? 0 : 1) - (exit[b] === exitOf[b] ? 0 : 1) || a - b);
    for (const i of homeless) {
      const k = exitOf[i], part = correct[i] ? 0 : 1;
      while (taken[k][free[k][part]]) free[k][part] += 1;
      slot[i] = free[k][part]++;
    }
    exit.set(exitOf);
    yes.set(correct);
    this.sizes.set(total);
  }
}

// The side of a tile so that any division into piles has room. All in device pixels.
const tileSide = (tiles, exits, width, height, least, most) => {
  for (let side = most; side > 2; side--) {
    const rows = Math.floor(height / side);
    if (Math.ceil(tiles / rows) * side + (exits - 1) * least <= width) return side;
  }
  return 2;
};

// Column and row (from the bottom) of a slot: row by row as wide as the heading, and once that is full column by column.
const slotPlace = (slot, rows, columns) => {
  const block = rows * columns;
  if (slot < block) return [slot % columns, Math.floor(slot / columns)];
  return [columns + Math.floor((slot - block) / rows), (slot - block) % rows];
};

// Left edges and widths of the piles: the first stands at the left, the last at the right, all at least `least` wide.
const pilePlaces = (sizes, side, rows, width, least, gap) => {
  const widths = Array.from(sizes, (n) => Math.max(least - gap, Math.ceil(n / rows) * side));
  const room = Math.max(0, width - widths.reduce((sum, w) => sum + w, 0)), lefts = [];
  let x = 0;
  for (const wide of widths) {
    lefts.push(Math.round(x));
    x += wide + room / Math.max(1, widths.length - 1);
  }
  return { lefts, widths };
};
