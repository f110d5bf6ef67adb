// The report's slider: numbers, curve, bars and tiles of one position after another. Everything is in the page already.

(() => {
  const { slider, flops, colours, figures, images } = JSON.parse(document.getElementById("data").textContent);
  const find = (id) => document.getElementById(id);
  const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)} %`;
  const ink = () => getComputedStyle(document.documentElement).getPropertyValue("--ink").trim();
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const K = flops.length, total = slider.counts[0].reduce((sum, n) => sum + n, 0);

  const of = (place) => {
    const row = slider.counts[place], at = flops.map((_, k) => row[2 * k] + row[2 * k + 1]);
    const mean = (values) => at.reduce((sum, n, k) => sum + n * values[k], 0) / total;
    return {
      yes: flops.map((_, k) => row[2 * k]),
      no: flops.map((_, k) => row[2 * k + 1]),
      at,
      accuracy: row.reduce((sum, n, i) => sum + (i % 2 ? 0 : n), 0) / total,
      compute: mean(flops),
      mean: mean(flops.map((_, k) => k + 1)),
      early: 1 - at[K - 1] / total,
    };
  };

  // -- figures --

  const settings = { responsive: true, displaylogo: false, displayModeBar: false };
  const drawn = Object.entries(figures).map(([name, figure]) =>
    Plotly.newPlot(name, figure.data, { ...figure.layout, font: { color: ink() }, autosize: true }, settings));
  find("curve").hidden = !figures.curve;
  const point = figures.curve?.data.findIndex((trace) => trace.name === "operating point");
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
    Object.keys(figures).forEach((name) => Plotly.relayout(name, { "font.color": ink() })));

  // -- images --

  const piles = flops.map((_, k) => {
    const pile = Object.assign(document.createElement("div"), { className: "pile" });
    const title = document.createElement("h4"), tiles = document.createElement("div");
    title.style.borderColor = colours[k];
    pile.append(title, tiles);
    find("piles").append(pile);
    return { title, tiles };
  });
  const words = (image, exit) => `${image.label}; exit ${exit + 1}: ${image.answers[exit]}${image.correct[exit] ? "" : ", incorrect"}`;
  const tell = (image) => {
    const answers = image.answers.map((answer, k) =>
      `exit ${k + 1}: ${answer} ${percent(image.confidence[k], 0)}${image.correct[k] ? " ✓" : " ✗"}`);
    find("detail").textContent = `${image.label}: ${answers.join(" · ")}`;
  };
  const tiles = images.map((image) => {
    const tile = Object.assign(document.createElement("button"), { type: "button", className: "tile" });
    if (image.address) tile.style.backgroundImage = `url("${image.address}")`;
    else tile.textContent = image.label;
    for (const event of ["focus", "pointerenter", "click"]) tile.addEventListener(event, () => tell(image));
    return tile;
  });
  if (!images.length) for (const part of [find("images"), document.querySelector(".hint"), find("piles")]) part.hidden = true;

  const arrange = (place) => {
    const before = calm.matches ? [] : tiles.map((tile) => tile.isConnected && tile.getBoundingClientRect());
    const focused = document.activeElement, found = piles.map(() => []);
    images.forEach((image, i) => {
      const exit = image.exits[place];
      found[exit].push(tiles[i]);
      tiles[i].classList.toggle("wrong", !image.correct[exit]);
      tiles[i].title = words(image, exit);
      tiles[i].setAttribute("aria-label", words(image, exit));
    });
    find("piles").style.setProperty("--widths", found.map((own) => `minmax(76px, ${Math.max(1, own.length)}fr)`).join(" "));
    found.forEach((own, k) => {
      if (own.length !== piles[k].tiles.children.length || own.some((tile, i) => tile !== piles[k].tiles.children[i])) {
        piles[k].tiles.replaceChildren(...own);
      }
    });
    if (tiles.includes(focused)) focused.focus({ preventScroll: true });
    before.forEach((was, i) => {
      if (!was) return;
      const now = tiles[i].getBoundingClientRect(), x = was.left - now.left, y = was.top - now.top;
      if (x || y) tiles[i].animate([{ transform: `translate(${x}px, ${y}px)` }, { transform: "none" }], { duration: 220, easing: "ease-out" });
    });
  };

  // -- one position --

  const show = (place) => {
    const now = of(place);
    find("value").textContent = slider.thresholds[place];
    find("threshold").setAttribute("aria-valuetext",
      `${slider.thresholds[place]}: accuracy ${percent(now.accuracy)}, compute ${percent(now.compute)}`);
    find("accuracy").textContent = percent(now.accuracy, 2);
    find("compute").textContent = percent(now.compute);
    find("mean").textContent = now.mean.toFixed(2);
    find("early").textContent = percent(now.early);
    if (figures.curve) Plotly.restyle("curve", { x: [[now.compute]], y: [[now.accuracy]] }, [point]);
    if (figures.exits) {
      Plotly.restyle("exits", { y: [now.yes, now.no] }, [0, 1]);
      const above = figures.exits.layout.annotations.map((note, k) => ({ ...note, y: now.at[k], text: now.at[k].toLocaleString("en") }));
      Plotly.relayout("exits", { annotations: above });
    }
    piles.forEach(({ title }, k) => {
      title.textContent = `exit ${k + 1}\n${percent(now.at[k] / total, 0)}`;
      title.title = `${now.at[k].toLocaleString("en")} of ${total.toLocaleString("en")} images`;
    });
    if (images.length) arrange(place);
  };

  const range = find("threshold");
  range.max = slider.thresholds.length - 1;
  range.value = slider.place;
  let waiting = 0;
  const moved = () => (waiting ||= requestAnimationFrame(() => ((waiting = 0), show(Number(range.value)))));
  range.addEventListener("input", moved);
  find("back").addEventListener("click", () => ((range.value = slider.place), moved()));
  Promise.all(drawn).then(() => {
    show(slider.place);
    document.documentElement.dataset.ready = "yes";
  });
})();
