// Images by exit: a bar for each exit, correct and incorrect stacked; each is a button.

const drawBars = (plot, data, width, height, pick) => {
  const exits = data.blocks.length, band = (width - 16) / exits, named = band >= 56, roomy = band >= 96;
  const box = { left: 8, top: 26, bottom: height - 40 };
  const svg = element("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "Exits" });
  const hatch = element(
    "pattern",
    { id: "hatch", width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
    element("rect", { class: "incorrect", width: 6, height: 6 }),
    element("line", { class: "stripe", x1: 0, y1: 0, x2: 0, y2: 6 }),
  );
  svg.append(element("defs", {}, hatch));
  svg.append(element("line", { class: "base", x1: box.left, x2: width - 8, y1: box.bottom, y2: box.bottom }));
  const bars = data.blocks.map((block, k) => {
    const left = box.left + k * band + band * 0.14, wide = band * 0.72, middle = left + wide / 2;
    const correct = element("rect", { class: "correct", x: left, width: wide });
    const incorrect = element("rect", { fill: "url(#hatch)", x: left, width: wide });
    const total = element("text", { class: "middle total", x: middle });
    const chosen = data.exit === k + 1;
    const bar = element(
      "g",
      { class: "bar", role: "button", tabindex: 0, "data-pick": k + 1, "aria-pressed": chosen },
      element("rect", { class: "area", x: box.left + k * band + 2, width: band - 4, y: 2, height: height - 4, rx: 6 }),
      correct,
      incorrect,
      total,
      element("text", { class: "middle name", x: middle, y: box.bottom + 16 }, named ? `exit ${k + 1}` : `${k + 1}`),
    );
    const cost = percent(data.costs[k], 0);
    if (band >= 40) {
      const text = roomy ? `block ${block} · ${cost}` : cost;
      bar.append(element("text", { class: "middle", x: middle, y: box.bottom + 32 }, text));
    }
    if (data.marked === k + 1) bar.append(element("circle", { class: "mark", cx: middle, cy: box.bottom, r: 5 }));
    bar.addEventListener("click", () => pick(k + 1));
    bar.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      pick(k + 1);
    });
    svg.append(bar);
    return { bar, correct, incorrect, total };
  });
  plot.replaceChildren(svg);
  return {
    svg,
    // `row`: as numbersOf's; `highest`: images of a bar of full height
    move: (row, highest) => {
      bars.forEach(({ bar, correct, incorrect, total }, k) => {
        const [yes, no] = [row[2 * k], row[2 * k + 1]];
        const scale = (box.bottom - box.top) / (highest || 1);
        const high = Math.max(yes * scale, 0), low = Math.max(no * scale, 0);
        correct.setAttribute("y", box.bottom - high);
        correct.setAttribute("height", high);
        incorrect.setAttribute("y", box.bottom - high - low);
        incorrect.setAttribute("height", low);
        total.setAttribute("y", box.bottom - high - low - 7);
        total.textContent = whole(yes + no);
        const words = `exit ${k + 1}, after block ${data.blocks[k]}: ${whole(yes + no)} images exit here, ${whole(yes)} correct`;
        bar.setAttribute("aria-label", words);
      });
    },
  };
};
