// Confusion matrix of the images that exit at the chosen exit, or at any: classes by predictions. With many classes the
// most frequent confusions instead. A cell chooses its class, and correct or incorrect answers.

const MOST_CLASSES = 16;
const CONFUSIONS = 12;

// (classes, classes) images by class and by the prediction of the exit where they exit; `exit` from 0, or -1: any.
const confusionCounts = (pictures, exitOf, exit, region) => {
  const { labels, answers, names, n_exits: K } = pictures, counts = new Uint32Array(names.length * names.length);
  for (let i = 0; i < labels.length; i++) {
    if ((exit >= 0 && exitOf[i] !== exit) || (region && !region[i])) continue;
    counts[labels[i] * names.length + answers[i * K + exitOf[i]]] += 1;
  }
  return counts;
};

class Confusion {
  constructor(figure, pick) {
    this.figure = figure;
    this.pick = pick;
    this.plot = figure.querySelector(".matrix");
  }

  show(pictures, exitOf, data) {
    const { names } = pictures, n = names.length, counts = confusionCounts(pictures, exitOf, data.exit - 1, regionOf(data.region, exitOf.length));
    const where = data.exit ? `at exit ${data.exit}` : "where the images exit";
    const caption = `Confusion ${where}${data.one ? ", all classes" : ""}`;
    const title = this.figure.querySelector("figcaption b");
    if (title.textContent !== caption) title.textContent = caption;
    if (n > MOST_CLASSES) return this.list(names, counts);
    if (this.names !== names) this.build(names);
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
    this.names = names;
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
    this.plot.replaceChildren(element("table", {}, head, element("tbody", {}, ...rows)));
  }

  list(names, counts) {
    this.names = null;
    const n = names.length, found = [];
    counts.forEach((count, at) => {
      if (count && Math.floor(at / n) !== at % n) found.push([count, Math.floor(at / n), at % n]);
    });
    found.sort((a, b) => b[0] - a[0]);
    const items = found.slice(0, CONFUSIONS).map(([count, row, column]) => {
      const button = element("button", { type: "button" }, `${names[row]} → ${names[column]}`);
      button.addEventListener("click", () => this.pick({ answer: "incorrect", class: row + 1 }));
      return element("li", {}, button, element("span", {}, whole(count)));
    });
    this.plot.replaceChildren(element("ol", {}, ...items));
  }
}
