// Parts of the mosaic that are not its motion: caption, headings, preview, and what the pointer and keys do.

const hexColour = (text) => {
  const digits = text.trim().slice(1);
  return [0, 2, 4].map((at) => parseInt(digits.slice(at, at + 2), 16));
};

const exitName = ({ blocks }, k) => `exit ${k + 1}${blocks.length ? `, after block ${blocks[k]}` : ""}`;

const drawHeads = (mosaic) => {
  const { data } = mosaic;
  return data.costs.map((cost, k) => {
    const block = data.blocks[k];
    const head = element(
      "button",
      { type: "button", class: "head", "data-pick": k + 1, "aria-pressed": data.exit === k + 1 },
      element("span", { class: "name" }, element("b", {}, `Exit ${k + 1}`), element("i", {}, block ? ` block ${block}` : "")),
      element("span", { class: "count" }),
      element("span", {}, element("span"), element("i", {}, " correct")),
      element("span", {}, percent(cost, 0), element("i", {}, " compute")),
    );
    head.title = `${exitName(data, k)}: ${percent(cost, 1)} compute`;
    if (data.marked === k + 1) head.classList.add("marked");
    head.addEventListener("click", () => mosaic.pick({ exit: k + 1 }));
    return head;
  });
};

const drawCaption = (mosaic) => {
  const { data } = mosaic, { amount, amounts, of } = data.sample, shown = Math.min(amount, of);
  const choices = amounts.filter((n, i) => n < of || i === 0 || amounts[i - 1] < of);
  const more = element("select", { "aria-label": "Images in the mosaic" });
  for (const n of choices) more.append(element("option", { value: n }, n < of ? whole(n) : `all ${whole(of)}`));
  more.value = String(choices.find((n) => n >= shown) ?? choices.at(-1));
  more.addEventListener("change", () => mosaic.pick({ amount: Number(more.value) }));
  more.title = "Drawn from every class in proportion. Drag around some to see only them.";
  mosaic.figure.getRootNode().querySelector(".legend").replaceChildren(
    element("span", { class: "key" }, element("i", { class: "swatch correct" }), "correct"),
    element("span", { class: "key" }, element("i", { class: "swatch incorrect" }), "incorrect"),
    ...(choices.length > 1 ? [element("label", { class: "key drawn" }, "Show ", more, ` of ${whole(of)}`)] : []),
  );
};

// Where there are no images: what the colours of the tiles mean.
const drawClassKey = (box, pictures, dark) => {
  const colourOf = tileColour(dark), named = pictures.names.length <= MOST_CLASSES ? pictures.names : [];
  const swatch = (label) => {
    const found = element("i", { class: "swatch" });
    found.style.background = `rgb(${colourOf(label)})`;
    return found;
  };
  const text = `No images are here: a tile has the colour of its class${named.length ? ":" : "."}`;
  box.hidden = Boolean(pictures.sheet);
  box.replaceChildren(text, ...named.map((name, label) => element("span", { class: "key" }, swatch(label), name)));
};

// (n,) whether a tile is faded: another exit, another kind of answer or a region without it is chosen.
const fadedTiles = ({ data, piles, pictures }) => {
  const faded = new Uint8Array(piles.exit.length), { answers: wanted } = data, K = pictures.n_exits;
  const region = regionOf(data.region, pictures.labels.length);
  if (!data.exit && wanted === "all" && !region) return faded;
  for (let i = 0; i < faded.length; i++) {
    const row = pictures.rows[i], last = pictures.answers[row * K + K - 1] === pictures.labels[row], yes = piles.yes[i] === 1;
    const kept = {
      correct: yes,
      incorrect: !yes,
      "overthinking avoided": yes && !last,
      "early-exit error": !yes && last,
    }[wanted] ?? true;
    faded[i] = kept && (!region || region[row]) && (!data.exit || piles.exit[i] === data.exit - 1) ? 0 : 1;
  }
  return faded;
};

const ring = ({ x, y, made, unit, figure }, context, tile, thick) => {
  if (tile < 0 || tile >= x.length) return;
  const wide = thick * unit, side = made.atlas.full;
  context.lineWidth = wide;
  context.strokeStyle = getComputedStyle(figure).color;
  context.strokeRect(x[tile] - wide / 2, y[tile] - wide / 2, side + wide, side + wide);
};

// The enlarged image beside the pointer, and the same in words for screen readers.
class Preview {
  constructor(figure, box) {
    this.box = figure.querySelector(box);
    this.words = figure.querySelector(".words-of-tile");
    this.figure = figure;
  }

  hide() {
    this.box.hidden = true;
  }

  show(mosaic, tile, said) {
    const { pictures, piles, x, y, unit, canvas } = mosaic, K = pictures.n_exits, row = pictures.rows[tile];
    const exit = piles.exit[tile], name = pictures.names[pictures.labels[row]];
    const answer = pictures.names[pictures.answers[row * K + exit]];
    const sure = percent(pictures.confidence[tile * K + exit] / 65535, 1);
    const { columns, side: cut, picture } = pictures, size = 224;
    const image = element(picture ? "canvas" : "div", { class: "large", width: size, height: size });
    if (picture) {
      const [left, above] = [(tile % columns) * cut, Math.floor(tile / columns) * cut];
      image.getContext("2d").drawImage(picture, left, above, cut, cut, 0, 0, size, size);
    } else image.textContent = String(pictures.numbers[tile]);
    const yes = piles.yes[tile] === 1;
    const facts = element(
      "div",
      { class: "facts" },
      element("b", {}, name),
      element("span", {}, `exit ${exit + 1} predicts`),
      element("span", { class: yes ? "better" : "worse" }, `${yes ? "✓" : "✗"} ${answer}`),
      element("span", {}, `${sure} confidence`),
      element("span", { class: "soft" }, `${pictures.split} image ${pictures.numbers[tile]}`),
    );
    this.box.replaceChildren(image, facts);
    this.box.hidden = false;
    const plot = canvas.parentElement.getBoundingClientRect(), wide = 260, high = 128;
    const left = x[tile] / unit, top = canvas.offsetTop + y[tile] / unit, side = mosaic.made.atlas.side / unit;
    const beside = left + side + 8 + wide < plot.width ? left + side + 8 : Math.max(0, left - wide - 8);
    this.box.style.left = `${beside}px`;
    this.box.style.top = `${Math.max(0, Math.min(plot.height - high, top - high / 2))}px`;
    const words = `${name}: exit ${exit + 1} predicts ${answer}, ${yes ? "correct" : "incorrect"}, ${sure} confidence`;
    if (said) this.words.textContent = words;
  }
}

// The tile beside `from` in its pile, or at the same height of the pile next to it.
const tileBeside = ({ piles, toX, toY, made }, from, key) => {
  const side = made.atlas.side, aim = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
  let best = from, least = Infinity;
  for (let i = 0; i < toX.length; i++) {
    const along = (toX[i] - toX[from]) * aim[0] + (toY[i] - toY[from]) * aim[1];
    const across = Math.abs((toX[i] - toX[from]) * aim[1]) + Math.abs((toY[i] - toY[from]) * aim[0]);
    if (along < side / 2 || i === from || piles.exit[i] === 255) continue;
    if (along + 3 * across < least) [best, least] = [i, along + 3 * across];
  }
  return best;
};

const listenToTiles = (mosaic) => {
  const { canvas } = mosaic;
  const over = (tile, said = false) => {
    if (mosaic.over === tile || lassoing(mosaic)) return;
    mosaic.over = tile;
    if (tile < 0) mosaic.preview.hide();
    else mosaic.preview.show(mosaic, tile, said);
    canvas.style.cursor = tile < 0 ? "default" : "pointer";
    mosaic.start(true);
  };
  const at = (event) => (mosaic.made && mosaic.piles ? mosaic.at(event.offsetX, event.offsetY) : -1);
  const choose = (tile) => tile >= 0 && mosaic.pick({ image: mosaic.pictures.rows[tile] });
  canvas.addEventListener("pointermove", (event) => over(at(event)));
  canvas.addEventListener("pointerleave", () => over(-1));
  canvas.addEventListener("blur", () => over(-1));
  listenToLasso(mosaic, (event) => choose(at(event)));
  canvas.addEventListener("keydown", (event) => {
    if (!mosaic.piles || event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key === "Enter" || event.key === " ") choose(mosaic.over ?? -1);
    else if (event.key === "Escape") {
      over(-1);
      if (mosaic.data.region) mosaic.pick({ region: [] });
    }
    else if (event.key.startsWith("Arrow")) over((mosaic.over ?? -1) < 0 ? 0 : tileBeside(mosaic, mosaic.over, event.key), true);
    else return;
    event.preventDefault();
  });
};

// The page's table of classes by exits follows the slider: shares of each class, and what it pays. Cells have names.
const showClasses = (table, { n_exits: exits, names }) => {
  const compute = [...document.querySelectorAll(".dx-heat-map [data-compute]")].map((head) => Number(head.dataset.compute));
  for (const line of document.querySelectorAll(".dx-heat-map [data-class]")) {
    const label = Number(line.dataset.class), counts = table.subarray(label * (exits + 2), (label + 1) * (exits + 2));
    const exited = [...counts.subarray(0, exits)], images = exited.reduce((sum, n) => sum + n, 0), [correct, last] = counts.subarray(exits);
    for (const cell of line.querySelectorAll("[data-exit]")) {
      const button = cell.firstChild, k = Number(cell.dataset.exit), n = exited[k], share = n / Math.max(1, images);
      const words = `${names[label]}: ${percent(share, 1)} exit at exit ${k + 1} (${whole(n)} images)`;
      cell.style.setProperty("--share", percent(share, 1));
      if (button.title.startsWith(words.slice(0, -1))) continue; // Python's also say how many are correct
      button.textContent = n ? percent(share, 0) : "·";
      button.title = words;
      button.setAttribute("aria-label", words);
    }
    const paid = {
      correct: percent(correct / images, 1),
      points: change((correct - last) / images),
      compute: percent(exited.reduce((sum, n, k) => sum + n * compute[k], 0) / images, 1),
    };
    for (const [name, text] of Object.entries(paid)) line.querySelector(`[data-paid="${name}"]`).textContent = images ? text : "–";
  }
};
