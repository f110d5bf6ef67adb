// The threshold slider: sliders, numbers, curve and mosaic. While a thumb moves everything here is redrawn from what came
// once; nothing is sent. A release sends `moved` with the thresholds, a click in the mosaic sends `picked`.

const BELOW = 30; // pixels under the stage: the page's own margins
const LEAST_HIGH = 340; // pixels of the stage; a lower screen scrolls
const ECHO = 4000; // ms after which the page's place of a thumb is used although no answer to the last message came
const views = new WeakMap();

// Whether a message only confirms where the sliders stand: then all that is drawn of them is there already. The same
// message twice is none: the page's colours have changed.
const isAnswer = (before, now) => {
  const rest = ({ answered, threshold, places, source, sent_before, times_missed, drawer, ...others }) => JSON.stringify(others);
  return Boolean(before) && before !== now && rest(before) === rest(now);
};

class ThresholdSlider {
  constructor(root) {
    this.root = root;
    this.find = (selector) => root.querySelector(selector);
    this.sent = 0; // number of the last message, an event of the page
    this.sentAt = -Infinity;
    this.places = [];
    this.grip = null; // what a pointer moves: the number of a slider, or "line"
    this.held = false; // a key that moves a slider is down
    this.mosaic = new Mosaic(this.find(".mosaic"), (what) => this.pick(what));
    this.map = new EmbeddingMap(this.find(".map"), (what) => this.pick(what));
    this.scores = new Scores(this.find(".scores"), this);
    this.confusion = new Confusion(this.find(".confusion"), (what) => this.pick(what));
    this.drawer = new Drawer(this.find(".drawer"), (what) => this.pick(what));
    this.tabs = new Tabs(root, (view) => this.choose(view));
    this.find(".only button").onclick = () => this.pick({ clear: true });
    this.arrived = () => {
      if (this.coming) return this.receive(this.coming, this.send);
      if (!this.data) return undefined;
      if (!this.data.compact) this.drawer.receive(this.data.drawer);
      this.showTabs(this.data.view);
      return this.show();
    };
    supplies.waiting.add(this.arrived);
    this.onResize = () => this.draw();
    this.observer = new ResizeObserver(() => requestAnimationFrame(this.onResize));
    const around = document.querySelector(".stMainBlockContainer"); // what stands above may take more lines
    for (const box of [root, ...(around ? [around] : [])]) this.observer.observe(box);
  }

  // A message from Python: `SliderData` of services/slider_data.py without `stays`, which has come already, or comes soon.
  receive(moving, send) {
    const lasting = kept(moving.lasting), before = this.data;
    for (const key of [moving.pictures, moving.exits, moving.neighbours]) kept(key);
    this.send = send;
    const missed = moving === this.heard ? [] : moving.sent_before.filter((key) => !supplies.kept.has(key));
    if (missed.length) send("missed", missed);
    this.heard = moving;
    this.coming = lasting ? null : moving;
    if (!lasting) return;
    const data = { ...lasting, ...moving, moving }, places = this.places.join();
    const waiting = data.answered < this.sent && performance.now() - this.sentAt < ECHO;
    const same = this.places.length === data.sliders.length;
    if (!same) this.last = this.linePlace = undefined; // they belong to sliders that are gone
    if (!same || (!waiting && this.grip === null && !this.held)) this.places = [...data.places];
    else this.places = data.sliders.map((slider, i) => samePlace(before.sliders[i], this.places[i], slider));
    this.data = data;
    if (!data.compact) this.drawer.receive(data.drawer);
    if (isAnswer(before?.moving, moving)) {
      for (const part of [this.mosaic, this.map]) part.data = data;
      return void (this.places.join() === places ? this.settle() : this.show());
    }
    this.buildSliders();
    drawLegend(this.find(".curve figcaption"), data);
    this.root.classList.toggle("dark", isDark(this.root));
    this.root.classList.toggle("compact", Boolean(data.compact));
    if (!data.compact) for (const part of [this.mosaic, this.map]) part.receive(data);
    this.showTabs(data.view);
    this.draw();
  }

  // A tab was pressed: what is drawn here is there at once.
  choose(view) {
    this.pick({ view });
    this.data.view = view;
    this.showTabs(view);
    this.draw();
  }

  showTabs(view) {
    if (this.data.compact) return;
    const exits = supplied(this.data.exits), pictures = supplied(this.data.pictures);
    const lacks = { confidence: this.data.costs.length < 2 || (exits && !exits.bins), map: pictures && !pictures.map.length && !this.data.map_note[0], elsewhere: !this.data.elsewhere };
    const lacking = Object.keys(lacks).filter((name) => lacks[name]);
    this.tabs.show(lacking.includes(view) ? "mosaic" : view, lacking);
  }

  // On a wide screen the stage is as high as what is left of it, so that nothing has to be scrolled.
  fill() {
    const stage = this.find(".stage"), scrolled = document.querySelector(".stMain")?.scrollTop ?? 0;
    const left = innerHeight - stage.getBoundingClientRect().top - scrolled - BELOW;
    const high = `${Math.max(LEAST_HIGH, Math.round(left))}px`;
    stage.style.setProperty("--high", high);
    document.documentElement.style.setProperty("--dx-high", high); // of what the page draws there (style.css)
  }

  // Charts at the size that there is, then the numbers.
  draw() {
    if (!this.data) return;
    if (this.data.compact) return void this.show();
    this.fill();
    const { width, height } = this.find(".curve .plot").getBoundingClientRect();
    this.waits = this.grip === "line"; // a new drawing would let go of the pointer that moves this one
    if (width && !this.waits) {
      this.curve = drawCurve(this.find(".curve .plot"), this.data, width, height);
      this.listenToCurve();
    }
    this.mosaic.resize();
    this.map.measure();
    this.scores.measure();
    this.show();
  }

  buildSliders() {
    const { sliders } = this.data, holder = this.find(".sliders");
    const names = sliders.map((slider) => slider.name).join("|");
    if (names === this.names) return;
    this.names = names;
    holder.classList.toggle("several", sliders.length > 1);
    this.sliders = sliders.map((_, i) => this.buildSlider(i));
    holder.replaceChildren(...this.sliders.map((slider) => slider.box));
    holder.hidden = !sliders.length;
  }

  buildSlider(i) {
    const { name, ends } = this.data.sliders[i];
    const value = element("output"), fill = element("div", { class: "fill" });
    const thumb = element("div", { class: "thumb", role: "slider", tabindex: 0, "aria-label": name, "aria-valuemin": 0 });
    const track = element("div", { class: "track" }, element("div", { class: "rail" }, fill), thumb);
    const top = element("div", { class: "top" }, element("span", { class: "name" }, name), value);
    const texts = element("div", { class: "ends" }, element("span", {}, ends[0]), element("span", {}, ends[1]));
    const box = element("div", { class: "slider" }, top, track, texts);
    track.addEventListener("pointerdown", (event) => this.grab(event, track, i, (x) => this.placeOn(track, i, x)));
    thumb.addEventListener("keydown", (event) => this.key(event, i));
    for (const kind of ["keyup", "blur"]) {
      thumb.addEventListener(kind, () => {
        this.held = false;
        this.commit();
      });
    }
    return { box, value, fill, thumb };
  }

  placeOn(track, i, x) {
    const { left, width } = track.getBoundingClientRect(), last = this.data.sliders[i].stops.length - 1;
    return Math.round(Math.min(1, Math.max(0, (x - left) / width)) * last);
  }

  listenToCurve() {
    const { svg, placeAt, hover } = this.curve;
    if (this.data.curves[0].x.length < 2) return;
    svg.classList.add("live");
    svg.addEventListener("pointerdown", (event) => this.grab(event, svg, "line", placeAt));
    svg.addEventListener("pointermove", (event) => hover(placeAt(event.clientX)));
    svg.addEventListener("pointerleave", () => hover(null));
  }

  // From the press to the release of a pointer on `target`.
  grab(event, target, grip, placeAt) {
    if (event.button) return;
    event.preventDefault();
    const before = [...this.places], last = this.last;
    this.grip = grip;
    try {
      target.setPointerCapture(event.pointerId);
    } catch {} // the pointer is gone already
    if (grip !== "line") this.sliders[grip].thumb.focus({ preventScroll: true });
    const move = (now) => this.move(grip, placeAt(now.clientX));
    const stop = (end) => {
      for (const [kind, listener] of listeners) target.removeEventListener(kind, listener);
      this.grip = null;
      if (this.waits) this.draw();
      if (end.type === "pointerup") return this.commit();
      if (before.length === this.places.length) this.places = before; // taken away: as if it had not been touched
      this.last = last;
      this.linePlace = undefined;
      return this.show();
    };
    const listeners = [["pointermove", move], ["pointerup", stop], ["pointercancel", stop]];
    for (const [kind, listener] of listeners) target.addEventListener(kind, listener);
    move(event);
  }

  key(event, i) {
    const last = this.data.sliders[i].stops.length - 1, page = Math.max(1, Math.round(last / 10)), now = this.places[i];
    const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -page, PageUp: page };
    const aims = { Home: 0, End: last };
    const place = event.key in steps ? now + steps[event.key] : aims[event.key];
    if (place === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    this.held = true;
    this.move(i, Math.min(last, Math.max(0, place)));
  }

  move(grip, place) {
    const single = this.data.sliders.length === 1;
    if (grip === "line" && !single) this.linePlace = place;
    else this.places[grip === "line" ? 0 : grip] = place;
    this.last = grip;
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      this.show();
    });
  }

  // The counts of what is set now; of a class only where one is chosen.
  rows() {
    const { sliders, line } = this.data;
    const source = this.linePlace !== undefined ? line : sliders[Number.isInteger(this.last) ? this.last : 0] ?? line;
    const wanted = this.linePlace ?? this.places[sliders.indexOf(source)] ?? 0;
    const place = Math.min(Math.max(0, wanted), source.counts.length - 1);
    return [source.counts[place], (source.some ?? source.counts)[place]];
  }

  thresholds() {
    const { sliders, line } = this.data;
    if (this.linePlace !== undefined) return line.stops[this.linePlace];
    return sliders.map((slider, i) => slider.stops[this.places[i]]).join(",");
  }

  show() {
    const { data } = this, [row, ofClass] = this.rows();
    const now = numbersOf(row, data.costs);
    this.curve?.move(now);
    const line = this.linePlace !== undefined && data.sliders.length > 1;
    if (!data.compact) {
      this.mosaic.place(line ? [this.linePlace] : this.places, line, () => narrowed(data, this.mosaic, ofClass).row);
      this.details();
    }
    const state = `accuracy ${percent(now.accuracy, 2)}, compute ${percent(now.compute, 1)}`;
    this.sliders.forEach(({ value, fill, thumb }, i) => {
      const { labels } = data.sliders[i], place = this.places[i], last = labels.length - 1;
      const share = `${(100 * place) / Math.max(last, 1)}%`;
      value.textContent = labels[place];
      fill.style.width = share;
      thumb.style.left = share;
      thumb.setAttribute("aria-valuemax", last);
      thumb.setAttribute("aria-valuenow", place);
      thumb.setAttribute("aria-valuetext", `threshold ${labels[place]}, ${state}`);
    });
    this.cards(now, narrowed(data, this.mosaic, ofClass));
    this.settle();
    if (!data.compact && !this.greeted && this.mosaic.piles) this.greet();
  }

  greet() {
    this.greeted = true;
    const { sliders, view } = this.data, places = [...this.places], last = sliders[0]?.stops.length - 1;
    if (sliders.length !== 1 || !last || view !== "mosaic" || calm.matches || !isNew()) return;
    this.grip = "sweep";
    const move = (share) => this.move(0, Math.round(share * last));
    sweep(places[0] / last, move, () => {
      this.grip = null;
      if (this.places.length === 1) this.places = places;
      this.show();
    });
  }

  // What depends on whether the thresholds are Python's.
  settle() {
    this.showRule();
    this.root.dataset.threshold = this.thresholds();
    this.root.classList.toggle("moving", this.grip !== null);
  }

  // Map, histograms and confusion matrix, from the exits that the mosaic found.
  details() {
    const { pictures, exitOf } = this.mosaic, exits = supplied(this.data.exits);
    if (!exitOf || !exits) return;
    const { view } = this.root.dataset;
    if (view === "map") this.map.show(this.mosaic);
    if (view === "confidence") this.scores.show(pictures, exits, exitOf, this.thresholds().split(","), this.data);
    if (view === "confusion") this.confusion.show(pictures, exitOf, this.data);
    if (this.data.drawer) this.drawer.show(exitOf[this.data.drawer.row], this.thresholds() === this.data.threshold);
  }

  // The rule, and where the thresholds come from: by hand as soon as they are others than Python's.
  showRule() {
    const moved = this.thresholds() !== this.data.threshold;
    this.find(".from").textContent = this.grip === "sweep" ? HINT : moved ? this.data.by_hand : this.data.source;
    document.documentElement.classList.toggle("dx-moved", moved);
    const { rule, sliders, ends } = this.data, place = this.places[0];
    let words = [rule];
    if (sliders.length === 1) {
      const last = sliders[0].labels.length - 1;
      const [before, after] = rule.split("{}");
      words = [before, element("b", {}, sliders[0].labels[place]), after ?? ""];
      if (place === 0) words = [ends[0]];
      if (place === last) words = [ends[1]];
    }
    this.find(".rule").replaceChildren(...words);
  }

  // Four numbers, of the chosen class or region where there is one; then the numbers of all stand above them.
  cards(all, { row, full, name }) {
    const { costs, region } = this.data, now = name ? numbersOf(row, costs) : all;
    const none = !now.images, versus = none ? "" : points(now.accuracy - full.accuracy);
    const used = `${percent(now.compute, 1)} used · last exit ${percent(full.compute, 1)}`;
    const every = `All ${region ? "images" : "classes"}: ${percent(all.accuracy, 2)} at ${percent(all.compute, 1)} compute.`;
    const { exit, answers = "all" } = this.data;
    const chosen = [...(exit ? [`exit ${exit}`] : []), ...(answers === "all" ? [] : [answers])].join(", ");
    this.find(".of").textContent = name ? `Only ${name}. ${every}` : chosen ? `In view: ${chosen}.` : "";
    this.find(".only").hidden = !name && !chosen;
    const [low, high] = intervalOf(now.accuracy, now.images);
    const bounds = none ? "" : `95%: ${fixed(100 * low, 1)} to ${percent(high, 1)}`;
    const facts = [
      ["accuracy", "Accuracy", percent(now.accuracy, 2), none ? "no images" : `${versus} the last exit`, bounds],
      ["compute", "Compute saved", signed(1 - now.compute, 1), none ? "no images" : used],
    ];
    const holder = this.find(".cards");
    if (!holder.children.length) {
      for (const [key, title] of facts) {
        const value = element("dd", { class: "value", "data-number": key });
        const more = [element("dd", { class: "note" }), element("dd", { class: "bounds" })];
        holder.append(element("div", { class: "card" }, element("dt", {}, title), value, ...more));
      }
    }
    facts.forEach(([key, , value, note, interval = ""], i) => {
      const [, number, more, ends] = holder.children[i].children;
      number.textContent = none ? "–" : value;
      more.textContent = note;
      ends.textContent = interval;
      ends.title = `Wilson's interval: the accuracies on all such images that fit these ${whole(now.images)}`;
      if (key === "accuracy") more.className = "note " + (versus[0] === "−" ? "worse" : versus[0] === "+" ? "better" : "");
    });
  }

  commit() {
    const thresholds = this.thresholds();
    this.linePlace = undefined;
    const waiting = this.sent > this.data.answered;
    if (thresholds === this.data.threshold && !waiting) return this.show();
    if (thresholds === this.lastSent && waiting) return undefined;
    const moved = numbered({ threshold: thresholds });
    this.lastSent = thresholds;
    this.sent = moved.event;
    this.sentAt = performance.now();
    this.send("moved", moved);
    this.root.classList.remove("moving");
    return undefined;
  }

  pick(what) {
    this.drawer.asked = "image" in what;
    this.send("picked", numbered(what));
  }

  close() {
    this.observer.disconnect();
    supplies.waiting.delete(this.arrived);
    for (const part of [this.mosaic, this.map]) part.close();
    cancelAnimationFrame(this.waiting);
  }
}

// For loader.js, which draws from now on and what has waited for this.
slider.draw = (parent, data, send) => {
  if (!parent.querySelector(".threshold-slider")) {
    parent.append(element("style", {}, CSS), document.createRange().createContextualFragment(HTML));
  }
  const root = parent.querySelector(".threshold-slider");
  if (!views.has(root)) views.set(root, new ThresholdSlider(root));
  views.get(root).receive(data, send);
};
slider.close = (parent) => views.get(parent.querySelector(".threshold-slider"))?.close();
for (const draw of slider.waiting.values()) draw();
slider.waiting.clear();

export default () => {};
