// Accuracy over compute for every position of the slider, with a point where it stands.

import { element, find, percent } from "./parts.js";

const WIDE = 520, HIGH = 250, LEFT = 52, RIGHT = 12, TOP = 12, BOTTOM = 40;

export class Curve {
  constructor(points, pick) {
    this.points = points; // { accuracy, compute } of every position
    const [low, high, step] = ticksOf(points.map(({ accuracy }) => accuracy)), most = Math.max(1, ...points.map(({ compute }) => compute));
    this.x = (share) => LEFT + (share / most) * (WIDE - LEFT - RIGHT);
    this.y = (share) => TOP + ((high - share) / (high - low)) * (HIGH - TOP - BOTTOM);
    const path = points.map(({ accuracy, compute }, i) => `${i ? "L" : "M"}${this.x(compute).toFixed(1)} ${this.y(accuracy).toFixed(1)}`).join("");
    this.point = element("svg:circle", { r: 7, class: "point" });
    const svg = element("svg:svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, role: "img", "aria-label": "Accuracy over compute, for every threshold" });
    for (let share = low; share < high + step / 2; share += step) {
      const y = this.y(share);
      svg.append(
        element("svg:line", { x1: LEFT, x2: WIDE - RIGHT, y1: y, y2: y, class: "grid" }),
        element("svg:text", { x: LEFT - 8, y: y + 4, class: "end" }, percent(share, 0)),
      );
    }
    for (const part of [0, 0.25, 0.5, 0.75, 1]) {
      svg.append(element("svg:text", { x: this.x(part), y: HIGH - 22, class: "middle" }, percent(part, 0)));
    }
    svg.append(
      element("svg:text", { x: (LEFT + WIDE - RIGHT) / 2, y: HIGH - 4, class: "middle" }, "compute, of the plain backbone's"),
      element("svg:path", { d: path, class: "run" }), this.point,
    );
    find("curve").replaceChildren(element("figcaption", {}, "Accuracy over compute"), svg);
    const at = (event) => {
      const { left, width } = svg.getBoundingClientRect(), aim = ((event.clientX - left) / width) * WIDE;
      const distance = points.map(({ compute }) => Math.abs(this.x(compute) - aim));
      pick(distance.indexOf(Math.min(...distance)));
    };
    svg.addEventListener("pointerdown", (event) => {
      svg.setPointerCapture(event.pointerId);
      at(event);
    });
    svg.addEventListener("pointermove", (event) => svg.hasPointerCapture(event.pointerId) && at(event));
  }

  show(place) {
    const { accuracy, compute } = this.points[place];
    this.point.setAttribute("cx", this.x(compute).toFixed(1));
    this.point.setAttribute("cy", this.y(accuracy).toFixed(1));
  }
}

// Ends and step of the axis, in whole percents: at most five lines around all values, at least two.
const ticksOf = (values) => {
  const low = 100 * Math.min(...values), high = 100 * Math.max(...values), step = Math.max(1, Math.ceil((high - low) / 4));
  const first = Math.min(100 - step, Math.floor(low / step) * step);
  return [first / 100, (first + Math.max(1, Math.ceil((high - first) / step)) * step) / 100, step / 100];
};
