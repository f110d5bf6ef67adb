// A thousand tiles: they run along the network, fall at their exits and lie in a pile for each; when the threshold moves,
// those that exit elsewhere move there. A pile is ordered by score: next to the following pile lie those that go on first.

import { fixed, percent } from "./parts.js";

const STREAM = 1500, WAY = 900, FALL = 480; // milliseconds until all have started, for the whole network, and down
const FOLLOW = 110; // milliseconds in which a tile makes two thirds of its way to another pile
const GAP = 8, COLUMNS = 40; // pixels between piles; of the canvas of small pictures

export class Piles {
  constructor(world) {
    const { n } = world.tiles;
    Object.assign(this, { world, place: world.facts.slider.place, x: new Float32Array(n), y: new Float32Array(n), toX: new Float32Array(n), toY: new Float32Array(n) });
    this.exits = new Uint8Array(n);
    this.order = [];
    // in which order they start: mixed, and the same at every visit
    let seed = 1;
    this.starts = Float32Array.from({ length: n }, () => ((seed = (seed * 16807) % 2147483647), (seed / 2147483647) * STREAM));
  }

  fit({ left, right, top, bottom, scale }) {
    const { n, exits } = this.world.tiles, wide = right - left, high = bottom - top;
    if (wide <= 0 || high <= 0) return;
    this.least = Math.min(64, Math.max(18, wide / (exits * 4)), (wide - (exits - 1) * GAP) / (exits + 1)); // a pile has room
    const room = wide - (exits - 1) * (this.least + GAP); // where all lie in one pile
    this.size = Math.max(4, Math.floor(Math.sqrt((room * high) / n)));
    while (this.size > 4 && Math.ceil(n / Math.floor(high / this.size)) * this.size > room) this.size -= 1;
    this.size = Math.min(this.size, 40);
    this.rows = Math.max(1, Math.floor(high / this.size));
    Object.assign(this, { left, right, top, scale });
    this.dress();
    this.#arrange();
    this.x.set(this.toX);
    this.y.set(this.toY);
  }

  /** Take every tile's picture in its size on the screen, so that drawing a frame only copies; without pictures colours. */
  dress() {
    const { tiles, facts, pictures: { bitmap: sheet } } = this.world, inner = Math.max(3, Math.round((this.size - 1) * this.scale));
    const canvas = (this.cells = document.createElement("canvas"));
    canvas.width = COLUMNS * inner;
    canvas.height = Math.ceil(tiles.n / COLUMNS) * inner;
    const pen = canvas.getContext("2d");
    pen.imageSmoothingQuality = "high";
    this.inner = inner;
    for (let i = 0; i < tiles.n; i++) {
      const x = (i % COLUMNS) * inner, y = Math.floor(i / COLUMNS) * inner;
      if (sheet) {
        const { columns, width, height } = facts.pictures;
        pen.drawImage(sheet, (i % columns) * width, Math.floor(i / columns) * height, width, height, x, y, inner, inner);
      } else {
        pen.fillStyle = `hsl(${(360 * tiles.labels[i]) / facts.class_names.length} 45% 60%)`;
        pen.fillRect(x, y, inner, inner);
      }
    }
  }

  /** Let the tiles go to their piles at a position of the slider; `at once`: they are there. */
  show(place, atOnce = false) {
    this.place = place;
    this.#arrange();
    if (!atOnce) return;
    this.x.set(this.toX);
    this.y.set(this.toY);
  }

  #arrange() {
    const { tiles, facts } = this.world, K = tiles.exits, { size, rows } = this, sign = facts.policy.score_falls ? 1 : -1;
    if (!size) return;
    const found = Array.from({ length: K }, () => []);
    for (let i = 0; i < tiles.n; i++) found[(this.exits[i] = tiles.exitOf(i, this.place))].push(i);
    found.forEach((own, k) => own.sort((a, b) => sign * (tiles.scores[a * K + k] - tiles.scores[b * K + k])));
    const widths = found.map((own) => Math.max(this.least, Math.ceil(own.length / rows) * size));
    const spare = Math.max(0, this.right - this.left - widths.reduce((sum, w) => sum + w, 0) - (K - 1) * GAP) / K;
    let x = this.left;
    this.boxes = found.map((own, k) => {
      const box = { left: x, width: widths[k] + spare };
      own.forEach((i, place) => {
        this.toX[i] = x + Math.floor(place / rows) * size;
        this.toY[i] = this.top + (place % rows) * size;
      });
      x += box.width + GAP;
      return box;
    });
    this.order = found.flat();
  }

  /** Begin the stream of tiles through the network. */
  start() {
    this.streaming = 0;
  }

  /** Move the tiles on; whether any still moves. */
  step(ms, stage) {
    if (this.streaming !== undefined) {
      this.streaming += ms;
      if (this.streaming > STREAM + WAY * 1.1 + FALL) this.streaming = undefined;
      else return this.#stream(stage), true;
    }
    const share = 1 - Math.exp(-ms / FOLLOW);
    let most = 0;
    for (let i = 0; i < this.x.length; i++) {
      const dx = this.toX[i] - this.x[i], dy = this.toY[i] - this.y[i];
      this.x[i] += dx * share;
      this.y[i] += dy * share;
      most = Math.max(most, Math.abs(dx), Math.abs(dy));
    }
    if (most > 0.3) return true;
    this.x.set(this.toX);
    this.y.set(this.toY);
    return false;
  }

  #stream(stage) {
    const { ways, trunk } = stage, last = ways.at(-1), half = this.size / 2;
    for (let i = 0; i < this.x.length; i++) {
      const way = ways[this.exits[i]], t = this.streaming - this.starts[i], run = (way / last) * WAY;
      if (t < 0) {
        this.x[i] = -100;
      } else if (t < run) {
        this.x[i] = stage.x(Math.min(way, (t / WAY) * last)) - half;
        this.y[i] = trunk - half + ((i % 7) - 3) * 1.5;
      } else {
        const fall = Math.min(1, (t - run) / FALL), x = stage.x(way) - half;
        this.x[i] = x + (this.toX[i] - x) * fall;
        this.y[i] = trunk - half + (this.toY[i] - trunk + half) * fall ** 2;
      }
    }
  }

  draw(pen, stage, shown) {
    const { facts, numbers, tiles } = this.world, { colours } = stage, now = numbers[this.place], { inner, scale } = this;
    pen.globalAlpha = shown;
    this.boxes?.forEach(({ left, width }, k) => {
      const x = stage.x(stage.ways[k]), middle = left + width / 2, share = now.at[k] / now.total;
      pen.fillStyle = facts.colours[k]; // from the exit to its pile
      pen.globalAlpha = 0.22 * shown;
      pen.beginPath();
      pen.moveTo(x - 4, stage.trunk + 8);
      pen.bezierCurveTo(x - 4, stage.trunk + 26, left, stage.trunk + 12, left, this.top - 38 * stage.type);
      pen.lineTo(left + width, this.top - 38 * stage.type);
      pen.bezierCurveTo(left + width, stage.trunk + 12, x + 4, stage.trunk + 26, x + 4, stage.trunk + 8);
      pen.fill();
      pen.globalAlpha = shown;
      pen.fillRect(left, this.top - 38 * stage.type, width, 3);
      const small = width < 56, words = small ? String(k + 1) : `exit ${k + 1}`;
      stage.text(words, small ? middle : left, this.top - 21 * stage.type, { size: 12, align: small ? "center" : "left", colour: colours.quiet });
      stage.text(small ? `${fixed(100 * share, 0)}%` : percent(share, 0), small ? middle : left, this.top - 6 * stage.type, { size: small ? 11 : 14, weight: 650, align: small ? "center" : "left" });
    });
    pen.imageSmoothingEnabled = false;
    const side = inner / scale;
    for (const i of this.order) {
      if (this.x[i] < -50) continue;
      pen.drawImage(this.cells, (i % COLUMNS) * inner, Math.floor(i / COLUMNS) * inner, inner, inner, this.x[i], this.y[i], side, side);
    }
    pen.fillStyle = colours.orange; // incorrect: a corner and a frame
    pen.beginPath();
    for (const i of this.order) {
      if (tiles.correct(i, this.exits[i]) || this.x[i] < -50) continue;
      const x = this.x[i], y = this.y[i], line = side < 13 ? 0 : Math.max(1.5, side / 10), corner = side * 0.45;
      pen.rect(x, y, side, line);
      pen.rect(x, y + side - line, side, line);
      pen.rect(x, y, line, side);
      pen.rect(x + side - line, y, line, side);
      pen.moveTo(x + side, y);
      pen.lineTo(x + side, y + corner);
      pen.lineTo(x + side - corner, y);
      pen.closePath();
    }
    pen.fill();
    if (this.marked !== undefined) {
      pen.strokeStyle = colours.ink;
      pen.lineWidth = 3;
      pen.strokeRect(this.x[this.marked] - 1.5, this.y[this.marked] - 1.5, side + 3, side + 3);
    }
    pen.globalAlpha = 1;
  }

  /** The tile at a point of the canvas. */
  at(x, y) {
    return this.order.find((i) => x >= this.x[i] && x < this.x[i] + this.size && y >= this.y[i] && y < this.y[i] + this.size);
  }
}
