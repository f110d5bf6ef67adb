// The region: images that a drag goes around, in the mosaic or in the map. Everything else is then faded and not counted.

const LEAST_WAY = 6; // css pixels of a drag, less is a click

const countOf = (n) => `${whole(n)} ${n === 1 ? "image" : "images"}`;

// Whether a point lies within a closed path of points.
const within = (path, x, y) => {
  let inside = false;
  for (let i = 0, j = path.length - 1; i < path.length; j = i++) {
    const [xi, yi] = path[i], [xj, yj] = path[j];
    if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) inside = !inside;
  }
  return inside;
};

// The tiles of a mosaic or a map whose middle lies within a path in css pixels.
const tilesWithin = ({ x, y, made, unit, piles }, path) => {
  const half = made.atlas.full / 2, found = [];
  for (let i = 0; i < x.length; i++) {
    if (piles.exit[i] !== 255 && within(path, (x[i] + half) / unit, (y[i] + half) / unit)) found.push(i);
  }
  return found;
};

const drawPath = ({ path, unit, figure }, context) => {
  if (!path || path.length < 2) return;
  context.beginPath();
  for (const [x, y] of path) context.lineTo(x * unit, y * unit);
  context.closePath();
  context.lineWidth = 1.5 * unit;
  context.strokeStyle = getComputedStyle(figure).color;
  context.setLineDash([4 * unit, 3 * unit]);
  context.stroke();
  context.setLineDash([]);
};

// (B,) which images the region has, or null for all; `packed`: rows as services/mosaic_data.py packs them.
let lastRegion = ["", 0, null];
const regionOf = (packed, images) => {
  if (!packed) return null;
  if (lastRegion[0] === packed && lastRegion[1] === images) return lastRegion[2];
  const found = new Uint8Array(images);
  for (const row of unpacked(packed, Uint32Array)) found[row] = 1;
  lastRegion = [packed, images, found];
  return found;
};

// What is counted for a region, of one class where one is chosen: as Python's rows, and what it has at the last exit.
const regionCounts = (pictures, exitOf, region, label, costs) => {
  const { labels, answers, n_exits: K } = pictures, row = new Array(2 * K).fill(0);
  let images = 0, last = 0;
  for (let i = 0; i < labels.length; i++) {
    if (!region[i] || (label >= 0 && labels[i] !== label)) continue;
    images += 1;
    if (answers[i * K + K - 1] === labels[i]) last += 1;
    row[2 * exitOf[i] + (answers[i * K + exitOf[i]] === labels[i] ? 0 : 1)] += 1;
  }
  return { row, images, full: { accuracy: last / images, compute: costs[K - 1] } };
};

// What is narrowed to, a class, a region or both: its name, counts, and what it has at the last exit. `row`: of the class.
const narrowed = ({ one, region, costs, full }, { pictures, exitOf }, row) => {
  if (!region || !exitOf || !pictures) return { row, full: one ? one.full : full, name: one?.name };
  const found = regionCounts(pictures, exitOf, regionOf(region, exitOf.length), one?.label ?? -1, costs);
  return { ...found, name: `the ${countOf(found.images)} of the region${one ? `, ${one.name}` : ""}` };
};

// A drag on the canvas of `from`; `click` is called where it was none.
const listenToLasso = (from, click) => {
  const { canvas, figure } = from;
  const say = (text) => (figure.querySelector(".words-of-tile").textContent = text);
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button || !from.made || event.pointerType === "touch") return; // a finger scrolls the page
    from.path = [[event.offsetX, event.offsetY]];
    try {
      canvas.setPointerCapture(event.pointerId);
    } catch {} // the pointer is gone already
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!from.path) return;
    from.path.push([event.offsetX, event.offsetY]);
    if (lassoing(from)) from.start(true);
  });
  const end = (event) => {
    const { path } = from, drawn = path && lassoing(from);
    from.path = null;
    if (!path) return;
    if (!drawn) return void (event.type === "pointerup" && (from.clicked = true));
    from.clicked = false;
    from.start(true);
    if (event.type !== "pointerup") return;
    const rows = tilesWithin(from, path).map((tile) => from.pictures.rows[tile]);
    if (!rows.length) return void say("No image in the region.");
    say(`${countOf(rows.length)} in the region. Escape shows all.`);
    from.pick({ region: rows });
  };
  for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, end);
  canvas.addEventListener("click", (event) => {
    if (event.pointerType === "mouse" && from.clicked === false) return; // the end of a drag
    click(event);
  });
};

const lassoing = ({ path }) => {
  if (!path) return false;
  const [x, y] = path[0];
  return path.some(([a, b]) => Math.hypot(a - x, b - y) > LEAST_WAY);
};
