// The race of Live: two lanes on a canvas. In the upper one images run to the exit that they took and drop out there; in
// the lower one all run to the end. Images start as often as the lanes' speeds say. Nothing is sent.

const HEIGHT = 196, SIDE = 22, LEFT = 4, RIGHT = 12; // pixels
const JOURNEY = 2600; // ms for the whole way, in both lanes
const EVERY = 620; // ms between two images at full depth; the other lane's come `speed_up` times as often
const FASTEST = 10; // speed-up above which the upper lane's images would be a blur
const REST = 9000; // ms after the last data until the images stand still
const FRAME = 1000 / 40; // ms between two drawings
const LANES = [{ top: 22, way: 46 }, { top: 130, way: 154 }]; // y of the text and of the way
const views = new WeakMap();

class Race {
  constructor(root) {
    this.root = root;
    this.canvas = root.querySelector("canvas");
    this.pictures = new Map();
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    this.lanes = [{ next: 0, number: 0, out: [] }, { next: 0, number: 0, out: [] }];
    this.observer = new ResizeObserver(() => this.draw(performance.now()));
    this.observer.observe(root);
  }

  receive(data) {
    this.data = data;
    this.cameAt = performance.now();
    this.canvas.setAttribute("aria-label", data.alt);
    for (const { src } of data.runners) {
      if (!src || this.pictures.has(src)) continue;
      const picture = new Image();
      picture.src = src;
      picture.onload = () => this.frame || this.draw(performance.now());
      this.pictures.set(src, picture);
    }
    const onTheirWay = this.lanes.flatMap(({ out }) => out.map(({ runner }) => runner));
    const needed = new Set([...data.runners, ...onTheirWay].map(({ src }) => src));
    for (const src of this.pictures.keys()) if (!needed.has(src)) this.pictures.delete(src);
    if (!this.frame) this.tick(performance.now());
  }

  tick(now) {
    this.frame = 0;
    if (!this.last || now - this.last >= FRAME) {
      this.last = now;
      this.draw(now);
    }
    const resting = !this.data.running && now - this.cameAt > REST;
    if (!resting && !this.still.matches && this.canvas.isConnected) this.frame = requestAnimationFrame((t) => this.tick(t));
  }

  // Images that started before `now` and are still to be seen, with the share of the whole way that they have made.
  runners(lane, now, every) {
    const state = this.lanes[lane];
    if (!state.next || now - state.next > 4 * JOURNEY) state.next = now - (this.still.matches ? 0 : JOURNEY * 0.6);
    while (state.next <= now) {
      state.out.push({ at: state.next, aside: (state.number % 5) - 2, runner: this.data.runners[state.number % this.data.runners.length] });
      state.number += 1;
      state.next += every;
    }
    state.out = state.out.filter(({ at, runner }) => now - at < JOURNEY * this.end(lane, runner) + 700);
    return state.out.map(({ at, runner, aside }) => ({ runner, aside, way: (now - at) / JOURNEY }));
  }

  end(lane, runner) {
    const { gates } = this.data;
    return lane ? 1 : gates[Math.min(runner.exit, gates.length - 1)];
  }

  draw(now) {
    const { data, canvas } = this, width = this.root.getBoundingClientRect().width;
    if (!data || !width) return;
    const scale = devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * scale)) {
      canvas.width = Math.round(width * scale);
      canvas.height = HEIGHT * scale;
    }
    const pen = canvas.getContext("2d"), style = getComputedStyle(this.root);
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, HEIGHT);
    this.pen = pen;
    this.ink = style.color;
    this.font = style.fontFamily;
    const length = width - LEFT - RIGHT - SIDE, x = (share) => LEFT + SIDE + share * length;
    const speed = Math.min(FASTEST, Math.max(0.2, data.speed_up));
    for (const lane of [0, 1]) {
      this.way(lane, x);
      if (!data.runners.length) continue;
      const all = this.still.matches ? this.posed(lane) : this.runners(lane, now, lane ? EVERY : EVERY / speed);
      for (const one of all) this.image(lane, one, x);
    }
  }

  // Without motion: one image at every exit, the last one at the end.
  posed(lane) {
    const seen = new Map(this.data.runners.map((runner) => [lane ? 0 : runner.exit, runner]));
    return [...seen.values()].map((runner) => ({ runner, aside: 0, way: this.end(lane, runner) }));
  }

  text(words, x, y, size = 13, weight = 400, align = "left") {
    this.pen.font = `${weight} ${size}px ${this.font}`;
    this.pen.textAlign = align;
    this.pen.fillText(words, x, y);
  }

  way(lane, x) {
    const { data, pen } = this, { top, way } = LANES[lane];
    pen.globalAlpha = 1;
    pen.fillStyle = this.ink;
    const [name, ...rest] = data.lanes[lane].split(" · ");
    this.text(name, LEFT, top, 13, 650);
    const after = pen.measureText(name).width;
    this.text(rest.join(" · "), LEFT + after + 12, top);
    pen.globalAlpha = 0.16;
    pen.fillRect(x(0) - SIDE / 2, way - 2, x(1) - x(0) + SIDE / 2, 4);
    const gates = lane ? [1] : data.gates, total = data.counts.reduce((sum, n) => sum + n, 0) || 1;
    gates.forEach((gate, k) => {
      pen.globalAlpha = 1;
      pen.fillStyle = lane ? this.ink : data.colours[k];
      pen.fillRect(x(gate) - 1.5, way - 13, 3, lane ? 26 : 34);
      if (lane) return;
      pen.fillStyle = this.ink;
      const room = (x(1) - x(0)) / gates.length, share = data.counts[k] / total;
      const name = `exit ${k + 1}`, part = `${(100 * share).toFixed(share < 0.1 ? 1 : 0)}%`;
      const lines = room > 84 ? [`${name} · ${part}`] : [name, part], align = k === gates.length - 1 ? "right" : "center";
      if (room > 34) lines.forEach((words, i) => this.text(words, x(gate), way + 52 + 14 * i, 12, 400, align));
    });
  }

  image(lane, { runner, aside, way }, x) {
    const { pen } = this, end = this.end(lane, runner), over = Math.max(0, way - end) * JOURNEY / 700;
    const left = x(Math.min(way, end)) - SIDE / 2 + over * aside * SIDE, top = LANES[lane].way - SIDE / 2 + (lane ? 0 : 26 * Math.min(1, over));
    pen.globalAlpha = Math.max(0, Math.min(1, 1.6 - 1.6 * over));
    const picture = this.pictures.get(runner.src);
    const correct = lane ? runner.full : runner.correct;
    pen.fillStyle = over > 0 ? (correct ? "#0072b2" : "#d55e00") : lane ? "#808890" : this.data.colours[runner.exit];
    pen.fillRect(left - 2, top - 2, SIDE + 4, SIDE + 4);
    if (picture?.complete && picture.naturalWidth) pen.drawImage(picture, left, top, SIDE, SIDE);
  }

  close() {
    this.observer.disconnect();
    cancelAnimationFrame(this.frame);
    this.frame = 0;
  }
}

export default function ({ data, parentElement }) {
  const root = parentElement.querySelector(".race");
  if (!views.has(root)) views.set(root, new Race(root));
  const view = views.get(root);
  view.receive(data);
  return () => view.close();
}
