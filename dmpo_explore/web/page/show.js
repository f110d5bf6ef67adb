// What plays at once: three images run through the network one by one, then a thousand fall to their exits while the
// threshold sweeps once. Without motion the same is four still pictures.

import { Stage, eased, lengthOf, runAt } from "./stage.js";
import { atStart, bound, calm, capital, element, find, length, modified, percent, scoreText, whole } from "./parts.js";

const LOOK = 3000, RISE = 700, STREAM = 3300, SWEEP = [[0, 900], ["last", 1700], ["last", 700], [0, 3400], [0, 900], ["own", 1900]]; // ms

// The part of the compute that is saved; exits on the way make it negative at full depth.
const saved = (compute) => percent(Math.round(1000 * (1 - compute)) / 1000 || 0).replace("-", "−");

export class Show {
  constructor(world, threshold) {
    Object.assign(this, { world, threshold, act: 0, time: 0, playing: false });
    this.last = world.running.length; // the act of the thousand
    this.stage = new Stage(find("stage"), world, () => this.#draw());
    this.#controls();
    threshold.listen((place, byHand) => {
      if (byHand) this.explore();
      this.stage.piles.show(place, calm.matches);
      this.#numbers();
      this.#wake();
    });
    this.#listen();
    if (calm.matches) this.#stills();
    this.go(calm.matches ? this.last : 0, !calm.matches);
  }

  // -- time --

  #ways() {
    return this.stage.ways;
  }

  #runOf(i, t) {
    const one = this.world.running[i];
    return { i, stop: one.exit, scores: one.scores, predictions: one.predictions, ...runAt(one.exit, this.#ways(), t) };
  }

  /** Go to an act and play it; without `play` show how it ends. */
  go(act, play = true) {
    this.act = act;
    this.time = play ? 0 : Infinity;
    this.done = !play;
    const { piles } = this.stage;
    piles.streaming = undefined;
    if (act === this.last) {
      this.seen = true;
      this.threshold.show(this.threshold.chosen);
      piles.show(this.threshold.chosen, true);
      if (play) piles.start();
    } else if (this.threshold.place !== this.world.facts.slider.place) {
      this.threshold.show(this.world.facts.slider.place);
    }
    this.#say();
    this.#draw();
    this.#numbers();
    this.play(play);
  }

  play(play = true) {
    this.playing = play;
    find("play").textContent = play ? "Pause" : this.act === this.last && this.done ? "Play again" : "Play";
    this.before = undefined;
    this.#wake();
  }

  /** The thousand, by the visitor's hand. */
  explore() {
    if (this.act === this.last && this.done && !this.playing) return;
    if (this.act !== this.last) this.go(this.last, false);
    this.time = Infinity;
    this.done = true;
    this.stage.piles.streaming = undefined;
    this.#say();
    this.play(false);
  }

  #wake() {
    this.frame ||= requestAnimationFrame((now) => this.#tick(now));
  }

  #tick(now) {
    this.frame = 0;
    const ms = Math.min(50, now - (this.before ?? now));
    this.before = now;
    if (this.playing) this.time += ms;
    let moving = this.playing;
    if (this.playing && this.act < this.last && this.time >= this.#lengthOf(this.act)) {
      if (!this.stay) return this.go(this.act + 1);
      this.time = Infinity;
      return this.play(false);
    }
    if (this.act === this.last) {
      if (this.playing) this.#sweep();
      moving = this.stage.piles.step(this.playing || this.done ? ms : 0, this.stage) || this.playing;
    }
    this.#draw();
    this.#numbers();
    if (this.act < this.last) this.#say();
    if (moving) this.#wake();
  }

  // The slider moves by itself: to the deepest position, to the earliest, and back.
  #sweep() {
    const own = this.world.facts.slider.place, ends = { last: this.world.numbers.length - 1, own, 0: 0 };
    let left = this.time - RISE - STREAM, from = own;
    if (left < 0) return;
    if (this.world.numbers.length > 1) {
      for (const [i, [aim, ms]] of SWEEP.entries()) {
        const to = i === 0 ? own : ends[aim];
        if (left < ms) return this.threshold.show(Math.round(from + (to - from) * eased(left / ms)));
        left -= ms;
        from = to;
      }
    }
    this.done = true;
    this.threshold.show(own);
    this.#say();
    this.play(false);
  }

  // An error is looked at for longer.
  #lengthOf(act) {
    const one = this.world.running[act];
    return lengthOf(one.exit) + (one.predictions[one.exit] === one.label ? 0 : LOOK);
  }

  // -- what is seen --

  /** The threshold of the line; undefined where every exit has its own. */
  #line() {
    const { slider, policy } = this.world.facts;
    return slider.thresholds.length > 1 || policy.thresholds.length < 2 ? slider.thresholds[slider.place] : undefined;
  }

  #draw() {
    const { act, last, stage, time } = this, line = this.#line();
    if (!stage) return;
    if (act < last) {
      const rested = [...Array(act).keys()];
      return stage.draw({ run: this.#runOf(act, time), rested, threshold: line });
    }
    const many = Math.min(1, time / RISE), run = last ? this.#runOf(last - 1, Infinity) : null;
    stage.draw({ many, run: many < 1 ? run : null, rested: [...Array(last).keys()], threshold: line });
  }

  #numbers() {
    const { act, last, world, threshold } = this, { facts } = world;
    if (act === last) {
      const now = world.numbers[threshold.place];
      this.#cards(now.compute, saved(now.compute), [["Accuracy", percent(now.accuracy, 2)], ["Exit early", percent(now.early)]], "Mean compute");
      return this.#detail(now);
    }
    const one = world.running[act], run = this.#runOf(act, this.time), k = run.fall > 0 ? one.exit : run.grown.length - 1;
    const right = one.predictions[one.exit] === one.label ? " ✓" : " ✗", shown = facts.class_names[one.predictions[k]];
    const exited = run.fall > 0, exit = `${k + 1} of ${facts.flops.length}`;
    this.#cards(run.at, exited ? saved(run.at) : "…", [["Answer", exited ? `${shown}${right}` : "…"], ["Exit", exited ? exit : "…"]], "Compute");
  }

  #cards(compute, kept, [third, fourth], title) {
    const set = (id, text) => find(id).textContent === text || (find(id).textContent = text);
    set("compute-title", title);
    set("compute", percent(compute));
    set("saved", kept);
    find("computed").style.width = length(compute);
    [third, fourth].forEach(([name, text], i) => {
      set(`${["third", "fourth"][i]}-title`, name);
      set(["accuracy", "early"][i], text);
    });
  }

  #detail(now) {
    const canvas = find("stage"), shares = now.at.map((n, k) => `exit ${k + 1}: ${percent(n / now.total, 0)}`).join(", ");
    canvas.setAttribute("aria-label", `${whole(this.world.tiles.n)} images in a pile for each exit. ${shares}. Arrow keys go from image to image.`);
  }

  // -- words --

  /** What happens in an act, in words: how it begins, or what came of it. */
  words(act, ended = true) {
    const { facts, running, numbers } = this.world, { policy, slider } = facts, K = facts.flops.length, names = facts.class_names;
    if (act === this.last) {
      const now = numbers[slider.place], drag = numbers.length > 1 ? ` A ${policy.falling ? "higher" : "lower"} threshold lets more of them exit early: less compute, more errors. Drag it.` : "";
      const shown = this.world.tiles.n < facts.images ? `${whole(this.world.tiles.n)} of ${whole(facts.images)}` : whole(facts.images);
      return [`${shown} ${facts.split} images fall to their exits`, `${capital(atStart(facts))}, ${percent(now.accuracy)} are correct (the others have an orange frame) with ${percent(now.compute, 0)} of the compute.${drag}`];
    }
    if (!ended) return [`Image ${act + 1} runs through the network`, policy.compared ? `At every exit its ${policy.score} is compared with the threshold. Where will it exit?` : "Where will it exit?"];
    const one = running[act], k = one.exit, answer = names[one.predictions[k]], right = one.predictions[k] === one.label;
    const score = `${policy.score} ${scoreText(one.scores[k], policy)}`, way = this.#ways()[k], side = policy.falling ? "below" : "above";
    const passed = policy.compared ? `, ${side} the threshold` : "", saved = percent(1 - way, 0), late = one.predictions.at(-1) === one.label;
    if (!right) {
      const after = k === K - 1 ? "Even the last exit is incorrect." : late ? "The last exit would have been correct: the price of an early exit." : "The last exit would have been incorrect, too.";
      return [k === K - 1 ? "Incorrect to the end" : "Early and incorrect", `Exit ${k + 1} answers “${answer}”, ${score}${k < K - 1 ? passed : ""}. It is “${names[one.label]}”. ${after}`];
    }
    if (k < K - 1) return ["An easy image exits early", `At exit ${k + 1} the answer is “${answer}”, ${score}${passed}. The network stops there and saves ${saved} of the compute.`];
    const more = way > 1 ? ` and ${percent(way - 1, 0)} more, for the exits on the way` : "";
    return ["A hard image needs the whole network", `No early exit ${policy.compared ? "reaches the threshold" : "stops it"}. The last one answers “${answer}”, ${score}, with all of the compute${more}.`];
  }

  #say() {
    const ended = this.act === this.last || this.#runOf(this.act, this.time).fall > 0;
    const [title, text] = this.words(this.act, ended).map(bound), key = `${title}${text}`;
    if (this.said === key) return;
    this.said = key;
    find("caption").replaceChildren(element("b", {}, title), " ", text);
    [...find("acts").children].forEach((node, i) => node.firstChild.setAttribute("aria-current", String(i === this.act)));
    document.documentElement.dataset.act = String(this.act + 1);
  }

  // -- hands --

  #controls() {
    const titles = [...this.world.running.map((_, i) => `Image ${i + 1}`), `${whole(this.world.tiles.n)} images`];
    find("acts").replaceChildren(...titles.map((title, i) => {
      const button = element("button", { type: "button", title: this.words(i)[0] }, title);
      button.addEventListener("click", () => {
        this.stay = this.seen; // once all was seen, until the visitor goes on
        this.go(i, !calm.matches);
      });
      return element("li", {}, button);
    }));
    find("play").addEventListener("click", () => {
      if (!this.playing && this.time === Infinity && this.act < this.last) this.go(this.act + 1);
      else if (!this.playing && this.done && this.act === this.last) {
        this.stay = false;
        this.go(0);
      }
      else this.play(!this.playing);
    });
    document.addEventListener("visibilitychange", () => document.hidden || (this.before = undefined));
  }

  #listen() {
    const canvas = find("stage"), { piles } = this.stage;
    const at = (event) => {
      const { left, top } = canvas.getBoundingClientRect();
      return this.act === this.last && this.done ? piles.at(event.clientX - left, event.clientY - top) : undefined;
    };
    canvas.addEventListener("pointermove", (event) => this.mark(at(event)));
    canvas.addEventListener("click", (event) => at(event) !== undefined && this.picked?.(at(event)));
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowRight: piles.rows, ArrowDown: 1, ArrowLeft: -piles.rows, ArrowUp: -1 }[event.key];
      if (modified(event)) return;
      if (event.key === "Enter" && piles.marked !== undefined) this.picked?.(piles.marked);
      if (!step) return;
      event.preventDefault();
      if (this.act !== this.last || !this.done) this.explore();
      const place = piles.marked === undefined ? 0 : piles.order.indexOf(piles.marked) + step;
      this.mark(piles.order[Math.min(piles.order.length - 1, Math.max(0, place))]);
    });
  }

  /** The pictures of the tiles are there. */
  dress() {
    this.stage.piles.dress();
    this.#wake();
  }

  /** Frame a tile and tell its answers at all exits. */
  mark(i) {
    const { piles } = this.stage;
    if (piles.marked === i) return;
    piles.marked = i;
    this.#wake();
    if (i === undefined) return;
    const { tiles, facts } = this.world, names = facts.class_names;
    const parts = facts.flops.map((_, k) => {
      const at = i * tiles.exits + k, mark = tiles.correct(i, k) ? "✓" : "✗";
      return `exit ${k + 1}: ${names[tiles.predictions[at]]} ${scoreText(tiles.scores[at], facts.policy, 0)} ${mark}`;
    });
    find("detail").textContent = `${names[tiles.labels[i]]}, exits at exit ${piles.exits[i] + 1}. ${parts.join(" · ")}`;
  }

  // -- without motion --

  #stills() {
    const { running } = this.world, line = this.#line();
    find("stills").hidden = false;
    find("stills").replaceChildren(...running.map((_, i) => {
      const canvas = element("canvas", { "aria-hidden": "true" }), figure = element("figure", {}, canvas, element("figcaption", {}));
      const [title, text] = this.words(i).map(bound);
      figure.lastChild.append(element("b", {}, title), " ", text);
      requestAnimationFrame(() => {
        const stage = new Stage(canvas, this.world, () => stage?.draw({ run: this.#runOf(i, Infinity), threshold: line }));
        stage.draw({ run: this.#runOf(i, Infinity), threshold: line });
      });
      return figure;
    }));
  }
}
