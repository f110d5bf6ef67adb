// The drawer beside the mosaic: the chosen image large, what every exit answers and how confident it is, where the image
// stops and why. The mark of its exit follows the thumb; everything else comes with the choice (services/chosen_image.py).

class Drawer {
  constructor(box, pick) {
    this.box = box;
    this.pick = pick;
    box.addEventListener("keydown", (event) => {
      const act = { ArrowLeft: () => this.step("before"), ArrowRight: () => this.step("after"), Escape: () => this.close() }[event.key];
      if (!act || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      act();
    });
  }

  receive(shown) {
    const key = `${JSON.stringify(shown)} ${Boolean(shown && kept(shown.picture))}`;
    const focused = this.asked || this.box.contains(this.box.getRootNode().activeElement);
    this.box.hidden = !shown;
    document.documentElement.classList.toggle("dx-drawer", Boolean(shown)); // what the page draws leaves it room
    if (shown && this.key !== key) {
      this.build(shown);
      if (focused) this.box.focus({ preventScroll: true });
    }
    this.key = key;
    this.shown = shown;
    this.asked = false;
  }

  step(which) {
    const row = this.shown[which];
    if (row !== null && this.pending !== this.key) this.pick({ image: row });
    this.pending = this.key; // until its answer is drawn
  }

  close() {
    this.pick({ image: this.shown.row }); // a second choice undoes the first
    const root = this.box.getRootNode(), canvas = root.querySelector(".panel.on canvas");
    (canvas ?? root.querySelector('.tabs [aria-pressed="true"]')).focus({ preventScroll: true });
  }

  build(shown) {
    const button = (text, label, act, off = false) => {
      const made = element("button", { type: "button", "aria-label": label, title: label }, text);
      made.disabled = off;
      made.addEventListener("click", act);
      return made;
    };
    const head = element(
      "header",
      {},
      element("span", {}, element("b", { title: shown.label }, shown.label), element("i", {}, shown.name)),
      button("‹", "Previous image (left arrow key)", () => this.step("before"), shown.before === null),
      button("›", "Next image (right arrow key)", () => this.step("after"), shown.after === null),
      button("✕", "Close (Escape)", () => this.close()),
    );
    const image = kept(shown.picture)?.image;
    const picture = image ? element("img", { src: image, alt: shown.label }) : element("div", { class: "large" }, shown.name);
    picture.classList.toggle("coarse", Boolean(image?.startsWith("data:image/png")));
    this.lines = shown.answers.map(([answer, correct, confidence], k) =>
      element(
        "tr",
        {},
        element("th", { scope: "row" }, `exit ${k + 1}`),
        element("td", { class: correct ? "better" : "worse", title: answer }, `${correct ? "✓" : "✗"} ${answer}`),
        element("td", {}, element("i", { class: "bar-of", style: `--share: ${percent(confidence, 1)}` }), percent(confidence, 1)),
        element("td", { class: "state" }),
      ),
    );
    const titles = ["exit", "prediction", "confidence", ""].map((title) => element("th", { scope: "col" }, title));
    const table = element("table", {}, element("thead", {}, element("tr", {}, ...titles)), element("tbody", {}, ...this.lines));
    const link = button("Why there? Open in One image", "Open in One image", () => document.querySelector(".st-key-hidden_link a")?.click());
    this.why = element("p", { class: "why" }, shown.why);
    this.box.replaceChildren(head, picture, table, this.why, link);
  }

  // `exit`: where the image stops now, from 0; `still`: whether the thresholds are those that the reason is of.
  show(exit, still) {
    if (!this.shown) return;
    this.why.textContent = still ? this.shown.why : `Now it stops at exit ${exit + 1}.`;
    this.lines.forEach((line, k) => {
      line.className = k === exit ? "here" : k > exit ? "later" : "";
      line.lastChild.textContent = k === exit ? "stops" : k > exit ? "not run" : "";
    });
  }
}
