// Confusion matrix of the images that exit at the chosen exit, or at any: classes by predictions. With many classes the
// most frequent confusions instead. A cell chooses its class, and correct or incorrect answers.

const MOST_CLASSES = 16;
const CONFUSIONS = 24;

// (classes, classes) images by class and by the prediction of the exit where they exit; `exit` from 0, or -1: any.
const confusionCounts = (pictures, exitOf, exit, region, counts) => {
  const { labels, answers, names, n_exits: K } = pictures;
  counts.fill(0);
  for (let i = 0; i < labels.length; i++) {
    if ((exit >= 0 && exitOf[i] !== exit) || (region && !region[i])) continue;
    counts[labels[i] * names.length + answers[i * K + exitOf[i]]] += 1;
  }
};

// The most frequent confusions, each [images, class, prediction]. Only incorrect answers are written to `pairs`, (B,)
// numbers, and sorted: with many classes nearly all of (classes, classes) counts are 0.
const mostConfused = (pictures, exitOf, exit, region, pairs) => {
  const { labels, answers, names, n_exits: K } = pictures, n = names.length, found = [];
  let incorrect = 0;
  for (let i = 0; i < labels.length; i++) {
    const answer = answers[i * K + exitOf[i]];
    if (answer === labels[i] || (exit >= 0 && exitOf[i] !== exit) || (region && !region[i])) continue;
    pairs[incorrect++] = labels[i] * n + answer;
  }
  const sorted = pairs.subarray(0, incorrect).sort();
  for (let from = 0, to; from < incorrect; from = to) {
    for (to = from + 1; sorted[to] === sorted[from]; ) to++;
    if (found.length === CONFUSIONS && to - from <= found.at(-1)[0]) continue; // of equal ones the first classes stay
    found.push([to - from, Math.floor(sorted[from] / n), sorted[from] % n]);
    found.sort((a, b) => b[0] - a[0]);
    if (found.length > CONFUSIONS) found.pop();
  }
  return found;
};

// The cell that a key leads to from cell `at` of n × n, or undefined.
const cellBeside = (at, n, key) => {
  const row = Math.floor(at / n), column = at % n, inside = (place) => Math.min(n - 1, Math.max(0, place));
  const aim = {
    ArrowLeft: [row, column - 1],
    ArrowRight: [row, column + 1],
    ArrowUp: [row - 1, column],
    ArrowDown: [row + 1, column],
    Home: [row, 0],
    End: [row, n - 1],
  }[key];
  return aim && inside(aim[0]) * n + inside(aim[1]);
};

class Confusion {
  constructor(figure, pick) {
    this.figure = figure;
    this.pick = pick;
    this.plot = figure.querySelector(".matrix");
    this.numbers = new Uint32Array(0); // written anew at every frame
  }

  // At least `length` numbers.
  buffer(length) {
    if (this.numbers.length < length) this.numbers = new Uint32Array(length);
    return this.numbers;
  }

  show(pictures, exitOf, data) {
    const { names } = pictures, n = names.length, of = [data.exit - 1, regionOf(data.region, exitOf.length)];
    const where = data.exit ? `at exit ${data.exit}` : "where the images exit";
    const caption = `Confusion ${where}${data.one ? ", all classes" : ""}`;
    const title = this.figure.querySelector("figcaption b");
    if (title.textContent !== caption) title.textContent = caption;
    if (n > MOST_CLASSES) return this.list(names, mostConfused(pictures, exitOf, ...of, this.buffer(exitOf.length)));
    const counts = this.buffer(n * n);
    confusionCounts(pictures, exitOf, ...of, counts);
    if (this.names !== names && JSON.stringify(this.names) !== JSON.stringify(names)) this.build(names);
    this.names = names; // other images may come with the same names: the cells stay, and the focus
    for (let row = 0; row < n; row++) {
      let images = 0;
      for (let column = 0; column < n; column++) images += counts[row * n + column];
      for (let column = 0; column < n; column++) {
        const count = counts[row * n + column], cell = this.cells[row * n + column];
        if (cell.count === count && cell.images === images) continue;
        [cell.count, cell.images] = [count, images];
        cell.firstChild.textContent = count ? whole(count) : "";
        cell.style.setProperty("--share", `${Math.round((100 * count) / (images || 1))}%`);
        cell.title = `${names[row]} predicted as ${names[column]}: ${whole(count)} of ${whole(images)} images`;
        cell.firstChild.setAttribute("aria-label", cell.title);
      }
    }
    return undefined;
  }

  build(names) {
    const short = (name) => (name.length > 11 ? `${name.slice(0, 10)}…` : name);
    const heads = names.map((name) => element("th", { scope: "col", title: name }, element("span", {}, short(name))));
    this.cells = [];
    const rows = names.map((name, row) => {
      const cells = names.map((_, column) => {
        const button = element("button", { type: "button", tabindex: -1 }, "");
        button.append("");
        const cell = element("td", { class: row === column ? "right" : "wrong" }, button);
        button.addEventListener("click", () => this.pick({ answer: row === column ? "correct" : "incorrect", class: row + 1 }));
        this.cells.push(cell);
        return cell;
      });
      return element("tr", {}, element("th", { scope: "row", title: name }, short(name)), ...cells);
    });
    const head = element("thead", {}, element("tr", {}, element("td"), ...heads));
    const label = "Confusion matrix; arrow keys go from cell to cell, Enter chooses one";
    const table = element("table", { role: "grid", "aria-label": label }, head, element("tbody", {}, ...rows));
    this.listen(table, names.length);
    this.plot.replaceChildren(table);
  }

  // Tab reaches one cell, at first that of the first class, then the last one that had the focus.
  listen(table, n) {
    let at = 0;
    const button = (cell) => this.cells[cell].firstChild;
    button(at).tabIndex = 0;
    table.addEventListener("focusin", (event) => {
      button(at).tabIndex = -1;
      at = this.cells.indexOf(event.target.closest("td"));
      button(at).tabIndex = 0;
    });
    table.addEventListener("keydown", (event) => {
      const to = cellBeside(at, n, event.key);
      if (to === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      button(to).focus();
    });
  }

  // The items stay while their texts change, and with them the focus.
  list(names, found) {
    if (this.names || !this.plot.firstChild) this.plot.replaceChildren(element("ol"));
    this.names = null;
    const items = this.plot.firstChild;
    while (items.children.length > found.length) items.lastChild.remove();
    while (items.children.length < found.length) {
      const button = element("button", { type: "button" }), item = element("li", {}, button, element("span"));
      button.addEventListener("click", () => this.pick({ answer: "incorrect", class: item.row + 1 }));
      items.append(item);
    }
    found.forEach(([count, row, column], i) => {
      const item = items.children[i], texts = [`${names[row]} → ${names[column]}`, whole(count)];
      item.row = row;
      texts.forEach((text, part) => {
        if (item.children[part].textContent !== text) item.children[part].textContent = text;
      });
    });
  }
}
