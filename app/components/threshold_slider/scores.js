// Histograms of the score at every exit, of the images that get there: correct above the line, incorrect below it. The
// threshold stands in each and can be dragged there; what lies beyond it exits.

const HIGH = [150, 280]; // pixels of a histogram, as there is room
const TITLE = 36; // pixels above and below it
const ABOVE = 0.62; // of the height: correct ones, which are more
const BAND = { left: 4, right: 8, top: 16, bottom: 18 };

// (exits − 1, bins, 2) images that reach an exit, by bin of their score and by whether its answer is incorrect.
const scoreCounts = (pictures, exits, exitOf, label, region) => {
  const { labels, answers, n_exits: K } = pictures, { scores, bins } = exits, counts = new Uint32Array((K - 1) * bins * 2);
  for (let i = 0; i < labels.length; i++) {
    if ((label >= 0 && labels[i] !== label) || (region && !region[i])) continue;
    const until = Math.min(exitOf[i], K - 2);
    for (let k = 0; k <= until; k++) {
      const wrong = answers[i * K + k] === labels[i] ? 0 : 1;
      counts[(k * bins + scores[i * (K - 1) + k]) * 2 + wrong] += 1;
    }
  }
  return counts;
};

class Scores {
  constructor(figure, slider) {
    this.figure = figure;
    this.slider = slider;
    this.plots = figure.querySelector(".histograms");
  }

  // The size that there is, read as rarely as the mosaic's.
  measure() {
    const { width, top } = this.plots.getBoundingClientRect(), { bottom } = this.figure.closest(".stage").getBoundingClientRect();
    const columns = getComputedStyle(this.plots).gridTemplateColumns.split(" ").length, rows = Math.ceil((this.slider.data.costs.length - 1) / columns);
    this.wide = width;
    this.high = Math.round(Math.max(HIGH[0], Math.min(HIGH[1], (bottom - top) / rows - TITLE)));
  }

  // The frames; anew for another run, policy or size.
  build(pictures, exits) {
    if (!this.wide) this.measure(); // hidden until now
    const key = `${exits.key} ${this.wide} ${this.high} ${this.slider.data.sliders.length}`;
    if (this.key === key || !this.wide) return;
    this.key = key;
    const { score, bins } = exits, { blocks } = this.slider.data;
    this.drawn = Array.from({ length: pictures.n_exits - 1 }, (_, k) => {
      const svg = element("svg", { height: this.high, role: "img" });
      const correct = element("path", { class: "correct" }), incorrect = element("path", { class: "incorrect" });
      const shade = element("rect", { class: "shade", y: BAND.top - 4 }), mark = element("line", { class: "mark-line" });
      const base = element("line", { class: "base" }), grip = element("circle", { class: "grip", r: 5 });
      const low = element("text", { class: "tick" }, trimmed(score.low));
      const high = element("text", { class: "tick end" }, trimmed(score.high));
      svg.append(shade, correct, incorrect, base, low, high, ...(score.moves ? [mark, grip] : []));
      const reach = element("span", {});
      const title = element("span", { class: "title" }, element("b", {}, `Exit ${k + 1}`), `${k in blocks ? ` block ${blocks[k]}` : ""} · `, reach);
      const box = element("div", { class: "histogram" }, title, svg);
      if (score.moves) this.listen(svg, k);
      return { box, svg, correct, incorrect, shade, mark, grip, base, low, high, reach };
    });
    this.bins = bins;
    this.score = score;
    this.plots.replaceChildren(...this.drawn.map((one) => one.box));
    for (const one of this.drawn) one.width = one.svg.getBoundingClientRect().width;
    this.figure.querySelector(".of-score").textContent = score.name;
  }

  listen(svg, k) {
    const grip = this.slider.data.sliders.length > 1 ? k : 0;
    const placeAt = (x) => {
      const { left, width } = svg.getBoundingClientRect(), { low, high } = this.score;
      const share = (x - left - BAND.left) / (width - BAND.left - BAND.right);
      const stops = this.slider.data.sliders[grip].stops.map(Number);
      return nearest(stops, low + share * (high - low));
    };
    svg.classList.add("live");
    svg.addEventListener("pointerdown", (event) => this.slider.grab(event, svg, grip, placeAt));
  }

  // `thresholds`: one, or one for each exit.
  show(pictures, exits, exitOf, thresholds, data) {
    if (!exits.bins || pictures.n_exits < 2) return;
    this.build(pictures, exits);
    if (!this.drawn) return;
    const region = regionOf(data.region, exitOf.length);
    const { bins, high: all } = this, counts = scoreCounts(pictures, exits, exitOf, data.one?.label ?? -1, region);
    this.drawn.forEach((one, k) => {
      const part = counts.subarray(k * bins * 2, (k + 1) * bins * 2), { width } = one;
      const inner = width - BAND.left - BAND.right, step = inner / bins, high = all - BAND.top - BAND.bottom;
      const line = BAND.top + high * ABOVE, paths = ["", ""];
      const most = (wrong) => Math.sqrt(part.reduce((highest, n, i) => (i % 2 === wrong ? Math.max(highest, n) : highest), 1));
      const scale = high * Math.min(ABOVE / most(0), (1 - ABOVE) / most(1)); // both fit
      let images = 0;
      for (let bin = 0; bin < bins; bin++) {
        for (let wrong = 0; wrong < 2; wrong++) {
          const n = part[bin * 2 + wrong];
          images += n;
          if (!n) continue;
          const tall = Math.sqrt(n) * scale, x = BAND.left + bin * step;
          const y = wrong ? line + 0.5 : line - tall;
          paths[wrong] += `M${x.toFixed(1)} ${y.toFixed(1)}h${Math.max(0.5, step - 0.75).toFixed(2)}v${tall.toFixed(1)}H${x.toFixed(1)}z`;
        }
      }
      one.correct.setAttribute("d", paths[0]);
      one.incorrect.setAttribute("d", paths[1]);
      place(one.base, { x1: BAND.left, x2: width - BAND.right, y1: line, y2: line });
      place(one.low, { x: BAND.left, y: all - 2 });
      place(one.high, { x: width - BAND.right, y: all - 2 });
      one.reach.textContent = `${whole(images)} reach it`;
      one.svg.setAttribute("aria-label", `exit ${k + 1}: ${this.score.name} of ${whole(images)} images that reach it`);
      if (this.score.moves) this.mark(one, Number(thresholds[k] ?? thresholds[0]), inner, high);
    });
  }

  mark(one, threshold, inner, high) {
    const { low, high: top, falling } = this.score, share = Math.min(1, Math.max(0, (threshold - low) / (top - low)));
    const x = BAND.left + share * inner;
    place(one.mark, { x1: x, x2: x, y1: BAND.top - 6, y2: BAND.top + high });
    place(one.grip, { cx: x, cy: BAND.top - 6 });
    const [from, to] = falling ? [BAND.left, x] : [x, BAND.left + inner];
    place(one.shade, { x: from, width: Math.max(0, to - from), height: high + 4 });
  }
}

const place = (made, attributes) => {
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
};

const trimmed = (value) => String(Number(value.toFixed(2)));
