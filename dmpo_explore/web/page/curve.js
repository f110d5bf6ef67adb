// Accuracy over compute for every position of the slider, with a point where it stands.

import { Chart, ticksOf } from "./chart.js";

export class Curve {
  constructor(points, pick) {
    this.points = points; // { accuracy, compute } of every position
    const most = Math.max(1, ...points.map(({ compute }) => compute));
    this.chart = new Chart({
      title: "Accuracy over compute, for every threshold",
      label: "compute, of the plain backbone's",
      lines: [{ points: points.map(({ compute, accuracy }) => [compute, accuracy]) }],
      xs: [0, most, 0.25],
      ys: ticksOf(points.map(({ accuracy }) => accuracy)),
    });
    this.node = this.chart.node;
    this.chart.drag((share) => {
      const distance = points.map(({ compute }) => Math.abs(compute - share * most));
      pick(distance.indexOf(Math.min(...distance)));
    });
  }

  show(place) {
    const { accuracy, compute } = this.points[place];
    this.chart.mark(compute, accuracy);
  }
}
