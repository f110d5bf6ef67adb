// Accuracy over compute: a line for each run, the bound, the operating point. The line is a slider too.

const DASHES = { solid: "", dash: "8 5", dot: "2 4", dashdot: "8 4 2 4", longdash: "14 6", longdashdot: "14 5 2 5" };

const drawCurve = (plot, data, width, height) => {
  const box = { left: 60, right: width - 14, top: 10, bottom: height - 40 };
  const lines = [...data.curves, ...(data.bound ? [data.bound] : [])];
  const xs = lines.flatMap((line) => line.x), ys = lines.flatMap((line) => line.y);
  const pad = (low, high) => [low - 0.04 * (high - low || 0.1), high + 0.06 * (high - low || 0.1)];
  const [x0, x1] = pad(Math.min(...xs), Math.max(...xs)), [y0, y1] = pad(Math.min(...ys), Math.max(...ys));
  const x = (value) => box.left + ((value - x0) / (x1 - x0)) * (box.right - box.left);
  const y = (value) => box.bottom - ((value - y0) / (y1 - y0)) * (box.bottom - box.top);
  const svg = element("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": data.alt });
  for (const value of ticks(y0, y1, 5)) {
    svg.append(element("line", { class: "grid", x1: box.left, x2: box.right, y1: y(value), y2: y(value) }));
    const digits = y1 - y0 < 0.05 ? 1 : 0;
    svg.append(element("text", { x: box.left - 8, y: y(value) + 4, class: "end" }, percent(value, digits)));
  }
  for (const value of ticks(x0, x1, width / 80)) {
    svg.append(element("line", { class: "grid", x1: x(value), x2: x(value), y1: box.top, y2: box.bottom }));
    svg.append(element("text", { x: x(value), y: box.bottom + 16, class: "middle" }, percent(value, 0)));
  }
  svg.append(element("text", { x: (box.left + box.right) / 2, y: height - 6, class: "middle" }, data.axis));
  const middle = (box.top + box.bottom) / 2;
  svg.append(element("text", { x: 12, y: middle, class: "middle", transform: `rotate(-90 12 ${middle})` }, "accuracy"));
  for (const line of [...lines].reverse()) {
    const dots = line.x.map((value, i) => [x(value), y(line.y[i])]);
    const look = `stroke: ${line.colour}; fill: ${line.colour}`;
    if (dots.length === 1) {
      const [[cx, cy]] = dots;
      svg.append(element("path", { class: "single", style: look, d: `M${cx} ${cy - 7}l7 7l-7 7l-7 -7z` }));
    } else {
      const d = "M" + dots.map((dot) => dot.map((v) => v.toFixed(1)).join(" ")).join("L");
      svg.append(element("path", { class: "run", style: look, "stroke-dasharray": DASHES[line.dash] || "", d }));
    }
  }
  const guide = element("line", { class: "guide", y1: box.top, y2: box.bottom, visibility: "hidden" });
  const point = element("circle", { class: "point", r: 7, style: `fill: ${data.curves[0].colour}` });
  svg.append(guide, point);
  plot.replaceChildren(svg);
  return {
    svg,
    move: (now) => {
      point.setAttribute("cx", x(now.compute).toFixed(1));
      point.setAttribute("cy", y(now.accuracy).toFixed(1));
    },
    hover: (place) => {
      guide.setAttribute("visibility", place === null ? "hidden" : "visible");
      if (place === null) return;
      guide.setAttribute("x1", x(data.curves[0].x[place]));
      guide.setAttribute("x2", x(data.curves[0].x[place]));
    },
    // the stop under a pointer: nearest in compute
    placeAt: (clientX) => {
      const left = svg.getBoundingClientRect().left;
      const value = x0 + ((clientX - left - box.left) / (box.right - box.left)) * (x1 - x0);
      return nearest(data.curves[0].x, value);
    },
  };
};

const drawLegend = (caption, data) => {
  const lines = [...data.curves, ...(data.bound ? [data.bound] : [])];
  const items = lines.map((line) => {
    const swatch = element("svg", { width: 22, height: 10, "aria-hidden": "true" });
    const look = `stroke: ${line.colour}; fill: ${line.colour}`;
    swatch.append(
      line.x.length === 1
        ? element("path", { class: "single", style: look, d: "M11 0l5 5l-5 5l-5 -5z" })
        : element("path", { class: "run", style: look, "stroke-dasharray": DASHES[line.dash] || "", d: "M1 5L21 5" }),
    );
    return element("span", { class: "key" }, swatch, line.name);
  });
  caption.replaceChildren(element("b", {}, data.one ? "Accuracy over compute, all classes" : "Accuracy over compute"), ...items);
};
