// The mosaic: images as tiles in piles, one for each exit. While the slider moves, tiles whose exit changes fly to their
// new pile; nothing is sent. A click on a tile sends `picked` with the image, one on a heading with the exit.

const MOST = 72; // css pixels of a tile
const LEAST = { wide: 88, narrow: 44 }; // css pixels of a pile's heading

class Mosaic extends Flock {
  constructor(figure, pick) {
    super(figure, pick, ".preview");
    this.heads = figure.querySelector(".heads");
    this.canvas.mosaic = this; // measured by benchmarks/app.py
  }

  // `data`: the slider's. Headings are made anew, tiles only where other ones came.
  receive(data) {
    this.data = data;
    drawCaption(this);
    const focused = this.figure.getRootNode().activeElement?.getAttribute("data-pick");
    this.heads.replaceChildren(...drawHeads(this));
    if (focused) this.heads.querySelector(`[data-pick="${focused}"]`)?.focus();
    if (this.headX?.length === data.costs.length) this.placeHeads();
  }

  // The size that there is. Read when it may have changed, not while the slider moves: reading makes the browser lay out.
  resize() {
    const { width, height } = this.canvas.parentElement.getBoundingClientRect();
    if (!width || !this.data) return;
    this.figure.classList.toggle("narrow", width < 560);
    const head = this.heads.getBoundingClientRect().height;
    if (height <= head || !this.resized(width, height - head)) return;
    this.canvas.style.height = `${this.size[1] / this.unit}px`;
    this.made = null;
  }

  // The tile under a point of the canvas, in css pixels; -1 if there is none.
  at(left, top) {
    const { x, y, made, unit } = this, side = made.atlas.side, [px, py] = [left * unit, top * unit];
    for (let i = x.length - 1; i >= 0; i--) {
      if (px >= x[i] && px < x[i] + side && py >= y[i] && py < y[i] + side) return i;
    }
    return -1;
  }

  // The sliders stand at `places` (or the curve's single threshold at places[0], with `line`); `counts()`: exact ones.
  place(places, line, counts) {
    const { data } = this, pictures = supplied(data.pictures), exits = supplied(data.exits);
    if (!this.size) this.resize();
    if (!this.size) return;
    const ready = pictures && exits && pictures.n_exits === data.costs.length;
    if (ready) this.arrange(pictures, exits, places, line);
    this.showHeads(counts(), ready); // of the exits that were found just now
    this.start();
  }

  arrange(pictures, exits, places, line) {
    const K = pictures.n_exits, images = pictures.labels.length;
    if (this.pictures !== pictures || !this.made) this.build(pictures);
    if (this.exitOf?.length !== images) this.exitOf = new Uint8Array(images);
    exitsAt(exits, places, line, images, K, this.exitOf);
    this.classes(pictures);
    const { rows } = pictures, now = (this.tileExit ??= new Uint8Array(rows.length)), yes = this.tileYes;
    for (let i = 0; i < rows.length; i++) {
      now[i] = this.exitOf[rows[i]];
      yes[i] = pictures.answers[rows[i] * K + now[i]] === pictures.labels[rows[i]] ? 1 : 0;
    }
    const first = this.piles.exit[0] === 255;
    this.piles.update(now, yes, (i) => {
      this.rate[i] = 0.7 + 0.6 * ((i * 0.618) % 1); // in flight each has its own speed
      this.flies[i] = first ? 0 : 1;
    });
    this.aim();
    if (first || calm.matches) this.jump();
  }

  // Where the classes of all images exit, for the table beside the gallery.
  classes(pictures) {
    const region = regionOf(this.data.region, pictures.labels.length);
    if (this.table) showClasses(classTable(pictures, this.exitOf, region), pictures);
    this.table = true; // the first is Python's own
  }

  // Other tiles, or another size: pixels and piles anew.
  build(pictures) {
    const n = pictures.rows.length, K = pictures.n_exits, [width, height] = this.size;
    this.least = (LEAST[width / this.unit < 560 ? "narrow" : "wide"]) * this.unit;
    this.gap = 10 * this.unit;
    const side = tileSide(n, K, width, height, this.least, Math.round(MOST * this.unit));
    const style = getComputedStyle(this.figure);
    const states = ["--incorrect", "--correct"].map((name) => hexColour(style.getPropertyValue(name)));
    const root = this.figure.closest(".threshold-slider");
    const look = { unit: this.unit, dark: isDark(root), states, ground: rgb(getComputedStyle(root).backgroundColor) };
    drawClassKey(root.querySelector(".classes"), pictures, look.dark);
    const made = (this.made = { atlas: new Atlas(n, side, look), rows: Math.floor(height / side) });
    made.columns = Math.max(1, Math.floor((this.least - this.gap) / side));
    const fill = (sheet) => {
      if (this.made !== made) return;
      made.atlas.fill(n, look, sheet, pictures.columns, Array.from(pictures.rows, (row) => pictures.labels[row]));
      this.start(true);
    };
    if (pictures.sheet) scaledSheet(pictures, made.atlas.inner).then(fill, () => fill(null));
    else fill(null);
    if (this.pictures === pictures && this.piles) return void this.aim();
    this.pictures = pictures;
    this.piles = new Piles(n, K);
    this.allot(n);
    this.rate = new Float32Array(n);
    this.flies = new Uint8Array(n);
    this.tileYes = new Uint8Array(n);
    this.tileExit = null;
    this.headX = null;
  }

  // Where every tile is to stand.
  aim() {
    const { piles, made, toX, toY } = this, { rows, atlas } = made, [width, height] = this.size, side = atlas.side;
    this.places = pilePlaces(piles.sizes, side, rows, width, this.least, this.gap);
    const { lefts, widths } = this.places, last = lefts.length - 1;
    for (let i = 0; i < toX.length; i++) {
      const k = piles.exit[i], [column, row] = slotPlace(piles.slot[i], rows, made.columns);
      toX[i] = k === last && k > 0 ? width - (column + 1) * side : lefts[k] + column * side;
      toY[i] = height - (row + 1) * side;
    }
    this.headTo = lefts.map((left, k) => (k === last && k > 0 ? width - widths[k] : left));
  }

  jump() {
    super.jump();
    this.flies.fill(0);
    this.headX = [...this.headTo];
  }

  // Headings go with their piles.
  step(passed) {
    let moving = super.step(passed);
    this.headX ??= [...this.headTo];
    this.headTo.forEach((to, k) => {
      if (k === this.headTo.length - 1) this.headX[k] = to; // its right edge stays
      const way = to - this.headX[k];
      if (way === 0) return;
      moving = true;
      this.headX[k] = Math.abs(way) < 0.6 ? to : this.headX[k] + way * partIn(passed);
    });
    return moving;
  }

  // Whether other tiles are to be faded.
  changed() {
    return this.faded !== this.fading();
  }

  fading() {
    return `${this.data.exit} ${this.data.answers} ${this.data.image} ${this.data.region}`;
  }

  paint() {
    const { x, y, flies, made, pixels, piles } = this, [width, height] = this.size, { atlas } = made;
    const faded = fadedTiles(this);
    this.faded = this.fading();
    pixels.fill(0);
    for (let flight = 0; flight < 2; flight++) {
      for (let i = 0; i < x.length; i++) {
        if (flies[i] !== flight) continue;
        atlas.draw(pixels, width, height, i, Math.round(x[i]), Math.round(y[i]), piles.yes[i] + 2 * faded[i]);
      }
    }
    const context = (this.context ??= this.canvas.getContext("2d", { willReadFrequently: true }));
    context.putImageData(this.image, 0, 0);
    ring(this, context, this.pictures.rows.indexOf(this.data.image), 2.5);
    ring(this, context, this.over ?? -1, 1.5);
    drawPath(this, context);
    this.placeHeads();
  }

  placeHeads() {
    for (const [k, head] of [...this.heads.children].entries()) {
      const x = (this.headX[k] / this.unit).toFixed(1);
      if (head.x !== x) head.style.transform = `translateX(${x}px)`; // a style that is set is computed again
      head.x = x;
    }
  }

  showHeads(some, ready) {
    const { data } = this;
    [...this.heads.children].forEach((head, k) => {
      const [yes, no] = [some[2 * k], some[2 * k + 1]], all = yes + no;
      const [, count, correct] = head.children;
      count.textContent = whole(all);
      correct.firstChild.textContent = all ? percent(yes / all, all < 1000 ? 0 : 1) : "–";
      const words = `${exitName(data, k)}: ${whole(all)} images exit here, ${whole(yes)} correct`;
      head.setAttribute("aria-label", words);
      if (ready && this.places) head.style.width = `${this.places.widths[k] / this.unit}px`;
    });
  }
}
