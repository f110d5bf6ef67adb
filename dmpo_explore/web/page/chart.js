// Line charts as SVG: axes in percent or whole numbers, lines, points, and a mark that moves.

import { element, percent } from "./parts.js";

const LEFT = 46, RIGHT = 24, TOP = 10, BOTTOM = 38;

/** Ends and step of an axis in whole percents: at most five lines around all values, at least two, none above 100 %. */
export const ticksOf = (values) => {
  const low = 100 * Math.min(...values), high = 100 * Math.max(...values), step = Math.max(1, Math.ceil((high - low) / 4));
  const first = Math.max(0, Math.min(100 - step, Math.floor(low / step) * step)), last = first + Math.max(1, Math.ceil((high - first) / step)) * step;
  return [first / 100, Math.min(100, last) / 100, step / 100];
};

/** The exits' values over the epochs: { chart, light(k) }, which dims the lines of all other exits. */
export const overEpochs = (facts, values, title, ys) => {
  const { epochs } = facts.story.training, last = Math.max(epochs.at(-1), epochs[0] + 1);
  const chart = new Chart({
    title, label: "epoch", xs: [epochs[0], last, Math.max(1, Math.ceil((last - epochs[0]) / 6))], ys, across: String,
    lines: values.map((own, k) => ({ points: own.map((value, i) => [epochs[i], value]), colour: facts.colours[k], dots: 3 })),
  });
  const light = (k) => chart.lines.forEach((line, i) => line.classList.toggle("dim", k !== null && i !== k));
  return { chart, light };
};

/** A chart: { node, x, y, mark(x, y) }.
 *
 * `lines`: { points: [[x, y], …], colour, dots }; `xs`, `ys`: [low, high, step]; `across`: the text of a value of x.
 */
export class Chart {
  constructor({ title, label, lines, xs, ys, across = (x) => percent(x, 0), wide = innerWidth < 720 ? 340 : 640, high = innerWidth < 720 ? 250 : 320, diagonal = false }) {
    const [left, right] = [LEFT, wide - RIGHT], bottom = high - BOTTOM;
    this.x = (value) => left + ((value - xs[0]) / (xs[1] - xs[0] || 1)) * (right - left);
    this.y = (value) => bottom - ((value - ys[0]) / (ys[1] - ys[0] || 1)) * (bottom - TOP);
    Object.assign(this, { left, right, bottom });
    const svg = (this.node = element("svg:svg", { viewBox: `0 0 ${wide} ${high}`, role: "img", "aria-label": title, class: "chart" }));
    for (let value = ys[0]; value < ys[1] + ys[2] / 1e3; value += ys[2]) {
      const y = this.y(value);
      svg.append(element("svg:line", { x1: left, x2: right, y1: y, y2: y, class: "grid" }), element("svg:text", { x: left - 7, y: y + 4, class: "end" }, percent(value, 0)));
    }
    for (let value = xs[0]; value < xs[1] + xs[2] / 1e3; value += xs[2]) {
      svg.append(element("svg:text", { x: this.x(value), y: bottom + 17, class: "middle" }, across(value)));
    }
    svg.append(element("svg:text", { x: (left + right) / 2, y: high - 3, class: "middle" }, label));
    if (diagonal) svg.append(element("svg:line", { x1: this.x(xs[0]), y1: this.y(ys[0]), x2: this.x(xs[1]), y2: this.y(ys[1]), class: "ideal" }));
    this.lines = lines.map(({ points, colour, dots }) => {
      const path = element("svg:path", { d: points.map(([x, y], i) => `${i ? "L" : "M"}${this.x(x).toFixed(1)} ${this.y(y).toFixed(1)}`).join(""), class: "run", pathLength: 1 });
      if (colour) path.style.stroke = colour;
      const circles = (dots ? points : []).map(([x, y]) => element("svg:circle", { cx: this.x(x), cy: this.y(y), r: dots }));
      for (const circle of circles) circle.style.fill = colour ?? "var(--blue)";
      svg.append(path, ...circles);
      return path;
    });
  }

  /** Put the mark at a point. */
  mark(x, y) {
    if (!this.point) this.node.append((this.point = element("svg:circle", { r: 7, class: "point" })));
    this.point.setAttribute("cx", this.x(x).toFixed(1));
    this.point.setAttribute("cy", this.y(y).toFixed(1));
  }

  /** `act(x)` while a pointer drags over the chart, with the value of x below it. */
  drag(act) {
    const svg = this.node, at = (event) => {
      const { left, width } = svg.getBoundingClientRect(), place = ((event.clientX - left) / width) * svg.viewBox.baseVal.width;
      act((place - this.left) / (this.right - this.left));
    };
    svg.classList.add("drag");
    svg.addEventListener("pointerdown", (event) => {
      svg.setPointerCapture(event.pointerId);
      at(event);
    });
    svg.addEventListener("pointermove", (event) => svg.hasPointerCapture(event.pointerId) && at(event));
  }
}
