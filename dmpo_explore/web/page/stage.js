// The network on a canvas: exits along it as far as their compute, an image that runs through it, a thousand that fall to
// their exits. A scene is drawn from its description alone, so that it can also be a still picture.

import { Piles } from "./piles.js";
import { percent, scoreText, thresholdText } from "./parts.js";

const BEAT = { enter: 300, travel: 300, grow: 280, look: 200, fall: 400, hold: 1500 }; // milliseconds of one image's run
const clamp = (x, low = 0, high = 1) => Math.min(high, Math.max(low, x));
export const eased = (x) => (x < 0.5 ? 4 * x ** 3 : 1 - (2 - 2 * x) ** 3 / 2);
const mix = (a, b, share) => a + (b - a) * share;

/** Milliseconds that an image needs until it rests below exit `stop`, counted from 0. */
export const lengthOf = (stop) => BEAT.enter + (stop + 1) * (BEAT.travel + BEAT.grow + BEAT.look) + BEAT.fall + BEAT.hold;

/** Where an image is `t` milliseconds after its start: { enter, at, grown, fall }; `ways` is each exit's place. */
export const runAt = (stop, ways, t) => {
  let left = t - BEAT.enter, at = 0;
  const grown = [];
  for (let k = 0; k <= stop && left > 0; k++) {
    at = mix(ways[k - 1] ?? 0, ways[k], eased(clamp(left / BEAT.travel)));
    left -= BEAT.travel;
    if (left <= 0) break; // on its way
    grown.push(eased(clamp(left / BEAT.grow)));
    left -= BEAT.grow + BEAT.look;
  }
  return { enter: eased(clamp(t / BEAT.enter)), at, grown, fall: clamp(left / BEAT.fall) };
};

export class Stage {
  constructor(canvas, world, redraw) {
    Object.assign(this, { canvas, world, pen: canvas.getContext("2d") });
    const { facts } = world;
    this.ways = facts.flops.map((flops) => flops / facts.reference_flops);
    this.piles = new Piles(world);
    const fit = () => (this.#fit(), redraw());
    new ResizeObserver(fit).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", fit);
    this.#fit();
  }

  #fit() {
    const { canvas } = this, { width, height } = canvas.getBoundingClientRect(), scale = Math.min(2, devicePixelRatio || 1);
    Object.assign(this, { width, height, scale });
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    const style = getComputedStyle(document.documentElement);
    this.colours = Object.fromEntries(["ink", "quiet", "page", "card", "line", "soft", "blue", "orange", "mark"].map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
    this.font = getComputedStyle(canvas).fontFamily;
    this.narrow = width < 640;
    this.type = clamp(width / 1200, 1, 1.4); // of the size of letters
    const edge = this.narrow ? 26 : 44, most = Math.max(1, this.ways.at(-1));
    this.x = (share) => edge + (share / most) * (width - 2 * edge);
    this.side = clamp(Math.min(width * 0.082, height * 0.2), 54, 130); // of the image that runs
    this.gap = Math.min(...this.ways.map((way, k) => this.x(way) - this.x(this.ways[k - 1] ?? 0)));
    this.high = height - 5 - this.side - (this.gap > 52 ? 32 + 32 * this.type : 42) - 38 * this.type; // the network, so that images find room below
    this.slots = this.#slots();
    this.piles.fit({ left: this.narrow ? 2 : 12, right: width - (this.narrow ? 2 : 12), top: 70 + 38 * this.type, bottom: height - 4, scale });
  }

  // Where the images come to rest: below their exits, apart from each other.
  #slots() {
    const { world, ways, side, width } = this, apart = side + (this.narrow ? 10 : 26);
    const wanted = world.running.map(({ exit }, i) => ({ i, x: this.x(ways[exit]) })).sort((a, b) => a.x - b.x || a.i - b.i);
    wanted.forEach((one, place) => place && (one.x = Math.max(one.x, wanted[place - 1].x + apart)));
    let most = width - apart / 2;
    for (const one of wanted.toReversed()) most = (one.x = Math.min(one.x, most)) - apart;
    const found = wanted.sort((a, b) => a.i - b.i).map(({ x }) => x);
    this.room = found.map((x, i) => Math.min(340, ...found.map((other, j) => (i === j ? Infinity : Math.abs(x - other)))) - 8); // for the answer below it
    return found;
  }

  /** Draw a scene.
   *
   * `many`: 0 for one image's run, 1 for a thousand. `run`: { i, ...runAt }, the image that runs; `rested`: images below
   * their exits; `threshold`: of the line.
   */
  draw({ many = 0, run = null, rested = [], threshold }) {
    const { pen, width, height, scale } = this;
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    this.trunk = mix(this.high, 34, eased(many));
    const shown = 1 - clamp(many * 2.5); // of what belongs to a single image
    this.#trunk(run, many);
    if (shown > 0) {
      this.#bars(run, threshold, shown);
      for (const i of rested) this.#rest(i, 1, shown);
    }
    this.#exits(run, many);
    if (shown > 0 && run) this.#image(run, shown);
    if (many > 0) this.piles.draw(pen, this, clamp(many * 2 - 1));
  }

  text(words, x, y, { size = 13, weight = 400, align = "center", colour = this.colours.ink, most = 400, inside = true } = {}) {
    const { pen, colours } = this;
    pen.font = `${weight} ${size * this.type}px ${this.font}`;
    let shown = words;
    while (pen.measureText(shown).width > most && shown.length > 2) shown = `${shown.slice(0, -2).trimEnd()}…`;
    const long = pen.measureText(shown).width, before = align === "center" ? long / 2 : align === "right" ? long : 0;
    pen.textAlign = "left";
    pen.fillStyle = colour;
    const left = inside ? clamp(x - before, 4, this.width - long - 4) : x - before;
    pen.strokeStyle = colours.card; // legible over lines and bars
    pen.lineWidth = 4;
    pen.lineJoin = "round";
    pen.strokeText(shown, left, y);
    pen.fillText(shown, left, y);
    return { left, long };
  }

  #trunk(run, many) {
    const { pen, colours, trunk, ways, world: { facts } } = this, high = 12, top = trunk - high / 2, from = this.x(0), to = this.x(ways.at(-1));
    const at = run ? this.x(run.at) : from, stopped = run?.fall > 0;
    pen.fillStyle = colours.soft;
    pen.beginPath();
    pen.roundRect(from, top, to - from, high, 6);
    pen.fill();
    pen.save();
    pen.clip();
    if (many > 0) {
      pen.globalAlpha = many;
      pen.fillStyle = colours.line;
      pen.fillRect(from, top, to - from, high);
      pen.globalAlpha = 1;
    }
    pen.fillStyle = colours.blue;
    pen.fillRect(from, top, at - from, high);
    if (stopped && to - at > 1) { // what is not computed
      pen.globalAlpha = Math.min(1, run.fall * 2) * (1 - many);
      pen.fillStyle = colours.card;
      pen.fillRect(at, top, to - at, high);
      pen.strokeStyle = colours.line;
      pen.lineWidth = 3;
      pen.beginPath();
      for (let x = at - high; x < to + high; x += 8) pen.moveTo(x, top + high), pen.lineTo(x + high, top);
      pen.stroke();
    }
    pen.restore();
    pen.strokeStyle = colours.card; // a cell for every block
    pen.lineWidth = 1.5;
    pen.beginPath();
    facts.blocks.forEach((block, k) => {
      const before = facts.blocks[k - 1] ?? 0, start = this.x(ways[k - 1] ?? 0), end = this.x(ways[k]);
      for (let b = 1; b < block - before; b++) {
        const x = mix(start, end, b / (block - before));
        pen.moveTo(x, top);
        pen.lineTo(x, top + high);
      }
    });
    pen.stroke();
    if (stopped && !this.narrow && to - at > 320) {
      pen.globalAlpha = Math.min(1, run.fall * 2) * (1 - many);
      const y = trunk + (this.gap > 52 ? 32 + 46 * this.type : 48), words = "the rest is not computed";
      this.text(words, (at + to) / 2, y, { size: 15, colour: colours.quiet });
      pen.globalAlpha = 1;
    }
  }

  #exits(run, many) {
    const { pen, colours, trunk, ways, world: { facts } } = this;
    ways.forEach((way, k) => {
      const x = this.x(way), here = run && run.fall > 0 && run.stop === k;
      pen.fillStyle = facts.colours[k];
      pen.beginPath();
      pen.roundRect(x - 4, trunk - 11, 8, 22, 4);
      pen.fill();
      pen.strokeStyle = colours.card;
      pen.lineWidth = 1.5;
      pen.stroke();
      if (many > 0.4) return;
      if (run && run.fall < 0.3 && Math.abs(x - this.x(run.at)) < this.side * 0.6) return; // the image hides it
      pen.globalAlpha = 1 - many * 2.5;
      const words = this.gap > 52 ? `exit ${k + 1}` : String(k + 1);
      if (this.gap > 16) this.text(words, x, trunk + 15 + 13 * this.type, { weight: here ? 700 : 500, colour: here ? colours.ink : colours.quiet });
      if (this.gap > 52) this.text(percent(way, 0), x, trunk + 15 + 29 * this.type, { size: 12, colour: colours.quiet });
      pen.globalAlpha = 1;
    });
  }

  #bars(run, threshold, shown) {
    const { pen, colours, trunk, ways, world: { facts } } = this, { policy } = facts, top = 14 + (this.narrow ? 44 : 26) * this.type, base = trunk - 20, high = base - top;
    const wide = clamp(this.gap * 0.5, 8, 44), last = ways.length - 1, y = (score) => base - (score / policy.highest) * high;
    pen.globalAlpha = shown;
    ways.forEach((way, k) => {
      const x = this.x(way) - wide / 2;
      pen.fillStyle = colours.soft;
      pen.beginPath();
      pen.roundRect(x, top, wide, high, 4);
      pen.fill();
      const grown = run?.grown[k];
      if (!grown) return;
      const score = run.scores[k] * grown, stops = k === run.stop;
      pen.globalAlpha = shown * (stops ? 1 : 0.6);
      pen.fillStyle = facts.colours[k];
      pen.beginPath();
      pen.roundRect(x, y(score), wide, base - y(score), 4);
      pen.fill();
      pen.globalAlpha = shown;
    });
    if (policy.compared) {
      pen.strokeStyle = colours.mark;
      pen.lineWidth = 2;
      pen.setLineDash([6, 5]);
      for (let k = 0; k < last; k++) {
        const level = y(threshold ?? policy.thresholds[k]);
        pen.beginPath();
        pen.moveTo(k ? (this.x(ways[k - 1]) + this.x(ways[k])) / 2 : this.x(0), level);
        pen.lineTo(k === last - 1 ? this.x(ways[k]) + wide : (this.x(ways[k]) + this.x(ways[k + 1])) / 2, level);
        pen.stroke();
      }
      pen.setLineDash([]);
      const words = threshold === undefined ? "thresholds" : `threshold ${thresholdText(threshold, policy)}`;
      const look = { weight: 600, colour: colours.mark, inside: false }, room = this.x(ways[0]) - wide / 2 - this.x(0);
      if (room < 96 * this.type) this.text(words, this.x(ways[last]) + wide / 2, 20, { align: "right", ...look });
      else this.text(words, this.x(0), y(threshold ?? policy.thresholds[0]) - 7, { align: "left", ...look });
    }
    this.text(policy.score, this.x(0), 20, { align: "left", colour: colours.quiet, inside: false });
    (run?.grown ?? []).forEach((grown, k) => {
      if (grown < 0.3) return;
      const x = this.x(ways[k]), level = Math.min(y(run.scores[k]), y(0) - 4), current = k === run.grown.length - 1;
      pen.globalAlpha = shown * clamp((grown - 0.3) * 2);
      if (current) this.text(facts.class_names[run.predictions[k]], x, level - 8 - 16 * this.type, { size: 15, weight: 650, most: this.width * 0.6 });
      if (current || this.gap > 40) this.text(scoreText(run.scores[k], policy), x, level - 8, { weight: current ? 650 : 400, colour: current ? colours.ink : colours.quiet });
    });
    pen.globalAlpha = 1;
  }

  // The image that runs: on the network, then down to where it rests.
  #image(run, shown) {
    if (run.fall >= 1) return this.#rest(run.i, 1, shown);
    const x = this.x(run.at), fall = run.fall ** 2;
    const [toX, toY] = [this.slots[run.i], this.#restY()];
    this.#picture(run.i, mix(x, toX, fall), mix(this.trunk, toY, fall), shown * run.enter, mix(0.72, 1, fall));
  }

  #restY() {
    return this.trunk + (this.gap > 52 ? 32 + 32 * this.type : 42) + this.side / 2;
  }

  #rest(i, share, shown) {
    const { pen, colours, world: { facts, running } } = this, one = running[i], answer = one.predictions[one.exit], x = this.slots[i], y = this.#restY();
    const right = answer === one.label, most = this.room[i];
    pen.globalAlpha = shown * share;
    pen.strokeStyle = facts.colours[one.exit];
    pen.lineWidth = 2;
    pen.beginPath();
    pen.moveTo(this.x(this.ways[one.exit]), this.trunk + (this.gap > 52 ? 20 + 33 * this.type : 34));
    pen.lineTo(x, y - this.side / 2);
    pen.stroke();
    this.#picture(i, x, y, shown * share, 1, right ? null : colours.orange);
    pen.globalAlpha = shown * share;
    const below = y + this.side / 2 + 5 + 15 * this.type;
    this.text(`${right ? "✓" : "✗"} ${facts.class_names[answer]}`, x, below, { size: this.narrow ? 13 : 15, weight: 650, most, colour: right ? colours.ink : colours.orange });
    if (!right) this.text(`it is: ${facts.class_names[one.label]}`, x, below + 17 * this.type, { colour: colours.quiet, most });
    pen.globalAlpha = 1;
  }

  #picture(i, x, y, alpha, size, frame = null) {
    const { pen, colours, world: { running, facts } } = this, side = this.side * size, picture = running[i].bitmap;
    pen.globalAlpha = alpha;
    pen.save();
    pen.shadowColor = "rgba(0,0,0,.3)";
    pen.shadowBlur = 10;
    pen.shadowOffsetY = 2;
    pen.fillStyle = frame ?? colours.card;
    pen.beginPath();
    pen.roundRect(x - side / 2 - 3, y - side / 2 - 3, side + 6, side + 6, 8);
    pen.fill();
    pen.restore();
    if (!picture) {
      pen.fillStyle = facts.colours[i % facts.colours.length];
      pen.fillRect(x - side / 2, y - side / 2, side, side);
    } else {
      const least = Math.min(picture.width, picture.height);
      pen.imageSmoothingEnabled = least > 72;
      pen.imageSmoothingQuality = "high";
      pen.drawImage(picture, (picture.width - least) / 2, (picture.height - least) / 2, least, least, x - side / 2, y - side / 2, side, side);
    }
    pen.globalAlpha = 1;
  }
}
