// The map: images as points, near each other where an exit's features are alike. Colours follow the slider: nothing is
// sent. A click on a point sends `picked` with the image, a drag around points with the region.

const KINDS = { class: "class", answer: "correct / incorrect", exit: "exit" };
const REACH = 9; // css pixels around a point that belong to it
const NEAR = -1; // in place of an exit: the places by t-SNE
const [LEAST_ZOOM, MOST_ZOOM, CLOSE] = [1, 40, 4]; // CLOSE: from here on points are images
const ZOOMED = 30; // css pixels of an image
const AWAY = -1e6; // of a point that has no place on the map

const hueColour = (label, dark) => classColour(label, dark ? 0.6 : 0.62, (dark ? 0.55 : 0.42) + (label % 2) * 0.13);

// Buttons side by side: each its text, attributes and value, with which `act` is called.
const choice = (label, options, act) => {
  const group = element("span", { class: "choice", role: "group", "aria-label": label });
  for (const [text, attributes, value] of options) {
    const button = element("button", { type: "button", ...attributes }, text);
    button.addEventListener("click", () => act(value, button));
    group.append(button);
  }
  return group;
};

class EmbeddingMap extends Flock {
  constructor(figure, pick) {
    super(figure, pick, ".map-preview");
    this.labels = figure.querySelector(".map-labels");
    this.kind = "class";
    this.zoom = { by: 1, x: 0, y: 0 }; // device pixels of the corner
    this.canvas.map = this;
    this.listenToZoom();
  }

  receive(data) {
    this.data = data;
    const note = this.figure.querySelector(".map-note");
    const [text, command] = data.map_note ?? ["", ""];
    note.replaceChildren(text, ...(command ? [" ", element("code", {}, command)] : []));
    note.hidden = !text;
  }

  // The size that there is, read as rarely as the mosaic's.
  measure() {
    const { width, height } = this.canvas.getBoundingClientRect();
    if (!width || !this.resized(width, height)) return;
    this.colours = null;
    if (this.pictures) this.aim(true);
  }

  // `mosaic`: whose tiles these are; their exits and answers are known.
  show(mosaic) {
    const { pictures, piles } = mosaic, near = supplied(this.data.neighbours), byExit = Boolean(pictures?.map?.length);
    const there = Boolean((byExit || near) && piles);
    this.figure.classList.toggle("without", !there);
    this.figure.querySelector(".map-wait").hidden = Boolean(near) || !this.data.neighbours;
    if (!there) return;
    this.piles = piles;
    if (this.pictures !== pictures || this.near !== near) this.build(pictures, near);
    this.measure();
    if (this.size) this.start(true);
  }

  build(pictures, near) {
    const n = pictures.rows.length, K = pictures.n_exits, byExit = Boolean(pictures.map.length);
    const same = this.pictures?.n_exits === K && this.near === near;
    [this.pictures, this.near] = [pictures, near];
    if (!same) this.exit = near ? NEAR : 0;
    this.place = near && new Map(Array.from(near.near, (row, at) => [row, at]));
    this.allot(n);
    this.drawCaption(byExit ? K : 0, Boolean(near));
    if (this.size) this.aim(true);
  }

  drawCaption(K, near) {
    const tSNE = ["last, t-SNE", { "aria-pressed": this.exit === NEAR, title: "images near each other are alike at the last exit" }, NEAR];
    const byExit = Array.from({ length: K }, (_, k) => [
      String(k + 1),
      { "aria-pressed": k === this.exit, "aria-label": exitName(this.data, k), title: "two principal components of its features" },
      k,
    ]);
    const exits = choice("Exit of the map", [...(near ? [tSNE] : []), ...byExit], (k, button) => this.choose(button, { exit: k }));
    const kindsOf = Object.entries(KINDS).map(([kind, text]) => [text, { "aria-pressed": kind === this.kind }, kind]);
    const kinds = choice("Colour of the points", kindsOf, (kind, button) => this.choose(button, { kind }));
    const steps = [["−", { "aria-label": "smaller" }, 1 / 1.5], ["+", { "aria-label": "larger" }, 1.5], ["all", { "aria-label": "all of the map" }, 0]];
    const zooms = choice("Zoom", steps, (by) => this.zoomBy(by));
    this.figure.querySelector("figcaption").replaceChildren(
      element("b", {}, "Map of the images"),
      element("span", { class: "key" }, "at exit ", exits),
      element("span", { class: "key" }, "coloured by ", kinds),
      element("span", { class: "key" }, zooms),
      element("span", { class: "key" }, "wheel: zoom · Shift and drag: move · drag: select · faint: exited before"),
    );
  }

  choose(button, what) {
    Object.assign(this, what);
    for (const other of button.parentElement.children) other.setAttribute("aria-pressed", other === button);
    if (this.size) this.aim(calm.matches);
    this.start(true);
  }

  // Where every point is to stand: the largest square that there is room for.
  aim(at_once = false) {
    const { pictures, toX, toY, unit } = this, [width, height] = this.size, K = pictures.n_exits;
    const side = pictures.rows.length > 4000 ? 3 : pictures.rows.length > 1500 ? 5 : 7;
    this.made = { atlas: { side: Math.round(side * unit), full: Math.round(side * unit) } };
    const edge = 10 * unit, half = this.made.atlas.side / 2, near = this.exit === NEAR, { by, x, y } = this.zoom;
    const places = near ? this.near.spots : pictures.map;
    for (let i = 0; i < toX.length; i++) {
      const at = near ? 2 * (this.place.get(pictures.rows[i]) ?? -1) : (i * K + this.exit) * 2;
      if (at < 0) {
        toX[i] = toY[i] = AWAY;
        continue;
      }
      toX[i] = (edge + (places[at] / 65535) * (width - 2 * edge)) * by - x - half;
      toY[i] = (height - edge - (places[at + 1] / 65535) * (height - 2 * edge)) * by - y - half;
    }
    if (at_once) this.jump();
  }

  // About a point in css pixels, by default the middle; 0 shows all.
  zoomBy(factor, left = this.size[0] / this.unit / 2, top = this.size[1] / this.unit / 2) {
    const { zoom, unit } = this, by = factor ? Math.min(MOST_ZOOM, Math.max(LEAST_ZOOM, zoom.by * factor)) : LEAST_ZOOM;
    const kept = (corner, at) => ((corner + at * unit) / zoom.by) * by - at * unit;
    this.moveTo(by, kept(zoom.x, left), kept(zoom.y, top));
  }

  moveTo(by, x, y) {
    const within = (corner, size) => Math.min(Math.max(0, corner), size * (by - 1));
    this.zoom = { by, x: within(x, this.size[0]), y: within(y, this.size[1]) };
    this.aim(true);
    this.start(true);
  }

  listenToZoom() {
    const { canvas } = this;
    canvas.addEventListener("wheel", (event) => {
      if (!this.made || (this.zoom.by === LEAST_ZOOM && event.deltaY > 0)) return; // the page scrolls
      event.preventDefault();
      this.zoomBy(2 ** (-event.deltaY / 300), event.offsetX, event.offsetY);
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => (this.pan = event.shiftKey && this.made ? [event.offsetX, event.offsetY] : null), true);
    canvas.addEventListener("pointermove", (event) => {
      if (!this.pan || !event.buttons) return;
      const { by, x, y } = this.zoom, [left, top] = this.pan;
      this.pan = [event.offsetX, event.offsetY];
      this.path = null; // no region
      this.clicked = false;
      this.moveTo(by, x - (event.offsetX - left) * this.unit, y - (event.offsetY - top) * this.unit);
    }, true);
    canvas.addEventListener("keydown", (event) => {
      const by = { "+": 1.5, "=": 1.5, "-": 1 / 1.5, 0: 0 }[event.key];
      if (this.made && by !== undefined) this.zoomBy(by);
    });
  }

  at(left, top) {
    const { x, y, unit, made } = this, half = made.atlas.side / 2, [px, py] = [left * unit - half, top * unit - half];
    let best = -1, least = (REACH * unit) ** 2;
    for (let i = 0; i < x.length; i++) {
      const away = (x[i] - px) ** 2 + (y[i] - py) ** 2;
      if (away < least) [best, least] = [i, away];
    }
    return best;
  }

  // Packed colours by kind, faint ones after them.
  look() {
    const { data, pictures } = this, root = this.figure.closest(".threshold-slider"), dark = root.classList.contains("dark");
    const key = `${this.kind} ${dark} ${pictures.key}`;
    if (this.colours?.key === key) return this.colours;
    const style = getComputedStyle(root), states = ["--incorrect", "--correct"].map((name) => hexColour(style.getPropertyValue(name)));
    const found = {
      class: () => pictures.names.map((_, label) => hueColour(label, dark)),
      answer: () => states,
      exit: () => data.exit_colours.map(rgb),
    }[this.kind]();
    const faint = dark ? 0x50 : 0x46;
    this.colours = { key, full: found.map((c) => packedColour(c)), soft: found.map((c) => packedColour(c, faint)), css: found };
    return this.colours;
  }

  paint(moving) {
    const { x, y, pictures, piles, pixels, exit, kind } = this, [width, height] = this.size, { side } = this.made.atlas;
    const { full, soft } = this.look(), faded = fadedTiles(this), disc = discOf(side);
    const filtered = this.data.region || this.data.exit || this.data.answers !== "all";
    pixels.fill(0);
    for (let over = 0; over < 2; over++) {
      for (let i = 0; i < x.length; i++) {
        const faint = Boolean(faded[i]) || (!filtered && kind !== "exit" && exit !== NEAR && piles.exit[i] < exit);
        if (faint === Boolean(over)) continue;
        const colour = (over ? full : soft)[this.of(i)], [left, top] = [Math.round(x[i]), Math.round(y[i])];
        if (left < 0 || top < 0 || left + side > width || top + side > height) continue;
        for (const step of disc) pixels[(top + Math.floor(step / side)) * width + left + (step % side)] = colour;
      }
    }
    const context = (this.context ??= this.canvas.getContext("2d", { willReadFrequently: true }));
    context.putImageData(this.image, 0, 0);
    if (this.zoom.by >= CLOSE && pictures.picture) this.drawImages(context, faded);
    ring(this, context, pictures.rows.indexOf(this.data.image), 2.5);
    ring(this, context, this.over ?? -1, 1.5);
    drawPath(this, context);
    this.name(!moving);
  }

  // At close range images, in a frame of the point's colour.
  drawImages(context, faded) {
    const { x, y, pictures, unit, size: [width, height], made: { atlas: { side } } } = this, wide = ZOOMED * unit;
    const { columns, side: cut, picture } = pictures;
    for (let i = 0; i < x.length; i++) {
      const left = x[i] + side / 2 - wide / 2, top = y[i] + side / 2 - wide / 2;
      if (left < -wide || top < -wide || left > width || top > height) continue;
      context.globalAlpha = faded[i] ? 0.3 : 1;
      context.drawImage(picture, (i % columns) * cut, Math.floor(i / columns) * cut, cut, cut, left, top, wide, wide);
      context.lineWidth = 2 * unit;
      context.strokeStyle = `rgb(${this.colours.css[this.of(i)]})`;
      context.strokeRect(left, top, wide, wide);
    }
    context.globalAlpha = 1;
  }

  // Which colour a point has.
  of(i) {
    const { kind, pictures, piles } = this;
    return kind === "class" ? pictures.labels[pictures.rows[i]] : kind === "answer" ? piles.yes[i] : piles.exit[i];
  }

  // Classes by name, where the middle of their points is. Of many classes those whose points lie closest together, as
  // far as names do not overlap; in flight none.
  name(rests) {
    const { pictures, toX, toY, unit } = this, n = pictures.names.length;
    const { by, x, y } = this.zoom;
    const key = rests ? `${this.exit} ${this.size} ${pictures.key} ${this.colours.key} ${by} ${x} ${y}` : "";
    if (this.named === key) return;
    this.named = key;
    this.labels.replaceChildren();
    if (!key) return;
    const middle = (values) => values.sort((a, b) => a - b)[values.length >> 1] / unit, many = n > MOST_CLASSES;
    const points = Array.from({ length: n }, () => []), placed = [];
    pictures.rows.forEach((row, i) => toX[i] === AWAY || points[pictures.labels[row]].push(i));
    const found = points.map((own, label) => {
      const left = middle(own.map((i) => toX[i])), top = middle(own.map((i) => toY[i]));
      const spread = many ? middle(own.map((i) => Math.hypot(toX[i] - left * unit, toY[i] - top * unit))) : label;
      return { label, left, top, spread, images: own.length };
    });
    const least = many ? 3 : 1; // images of a class, fewer have no middle
    const shortened = (name) => (name.length > 20 ? `${name.slice(0, 19)}…` : name), half = (name) => 3.5 * name.length + 4;
    for (const { label, left, top: aim } of found.filter((one) => one.images >= least).sort((a, b) => a.spread - b.spread)) {
      let top = aim - (many ? 14 : 0); // above the few points of one of many classes
      const name = shortened(pictures.names[label]);
      const hit = () => placed.some(([l, t, wide]) => Math.abs(l - left) < wide + half(name) && Math.abs(t - top) < 15);
      if (many && hit()) continue;
      while (hit()) top += 8;
      placed.push([left, top, half(name)]);
      const text = element("span", {}, name);
      text.style.cssText = `left:${left}px;top:${top}px;--own:${this.kind === "class" ? `rgb(${this.colours.css[label]})` : "inherit"}`;
      this.labels.append(text);
    }
    const shown = [...this.labels.children], halves = shown.map((text) => text.offsetWidth / 2);
    shown.forEach((text, i) => {  // whole at the edges
      const left = Math.min(parseFloat(text.style.left), this.labels.clientWidth - halves[i]);
      text.style.left = `${Math.max(halves[i], left)}px`;
    });
  }
}

// Which pixels of a square belong to its disc.
const discs = new Map();
const discOf = (side) => {
  if (discs.has(side)) return discs.get(side);
  const found = [], middle = (side - 1) / 2;
  for (let at = 0; at < side * side; at++) {
    if ((Math.floor(at / side) - middle) ** 2 + ((at % side) - middle) ** 2 <= (side / 2) ** 2) found.push(at);
  }
  discs.set(side, found);
  return found;
};
