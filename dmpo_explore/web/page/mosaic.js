// The mosaic: some of the record's images as tiles, in a pile for each exit; they move when the threshold does.

import { calm, element, find, percent, scoreText, whole } from "./parts.js";
import { exitOf } from "./record.js";

const MOVE = { duration: 260, easing: "cubic-bezier(.2,.7,.2,1)" };

export class Mosaic {
  constructor(facts, record, pictures, pick) {
    Object.assign(this, { facts, record, pictures });
    this.piles = facts.stages.map((_, k) => {
      const title = element("h3"), note = element("p"), tiles = element("div", { class: "tiles" });
      const pile = element("div", { class: "pile", role: "group" }, element("div", { class: "head" }, title, note), tiles);
      pile.style.setProperty("--exit", facts.colours[k]);
      return { pile, title, note, tiles };
    });
    find("piles").replaceChildren(...this.piles.map(({ pile }) => pile));
    this.tiles = facts.tiles.map((row, i) => {
      const tile = element("button", { type: "button", class: "tile", tabindex: -1 });
      if (pictures.facts) pictures.dress(tile, i);
      else tile.textContent = facts.class_names[record.labels[row]];
      tile.addEventListener("pointerenter", () => this.#tell(i));
      tile.addEventListener("focus", () => this.#roam(i));
      tile.addEventListener("click", () => pick(i));
      tile.addEventListener("keydown", (event) => this.#key(event));
      return tile;
    });
    this.tiles[0].tabIndex = 0;
    const all = facts.tiles.length === record.images;
    find("drawn").textContent = all ? "" : `${whole(facts.tiles.length)} of them, drawn at random from every class`;
  }

  /** Put the tiles where they exit at a threshold; `counts` are those of all images. */
  show(threshold, { yes, no, at, total }) {
    const { record, facts } = this, { falling } = facts.policy, before = this.#places();
    const exits = facts.tiles.map((row) => exitOf(record, row, threshold, falling));
    const found = this.piles.map(() => []);
    exits.forEach((k, i) => found[k].push(this.tiles[i]));
    this.piles.forEach(({ pile, title, note, tiles }, k) => {
      title.textContent = `Exit ${k + 1}`;
      note.textContent = `${percent(at[k] / total, 0)}`;
      const right = at[k] ? `, ${percent(yes[k] / at[k])} of them correct` : "";
      pile.setAttribute("aria-label", `Exit ${k + 1}: ${whole(at[k])} of ${whole(total)} images${right}`);
      pile.title = `${whole(yes[k] + no[k])} of ${whole(total)} images exit here${right}`;
      if (found[k].length !== tiles.children.length || found[k].some((tile, i) => tile !== tiles.children[i])) {
        tiles.replaceChildren(...found[k]);
      }
    });
    find("piles").style.setProperty("--widths", found.map((own) => `minmax(4.25rem, ${Math.max(1, own.length)}fr)`).join(" "));
    exits.forEach((k, i) => {
      const row = facts.tiles[i], right = record.predictions[row * record.exits + k] === record.labels[row];
      this.tiles[i].classList.toggle("wrong", !right);
      this.tiles[i].setAttribute("aria-label", this.#words(row, k, right));
    });
    this.exits = exits;
    this.focused?.focus({ preventScroll: true });
    this.#move(before);
  }

  #words(row, k, right) {
    const { class_names: names } = this.facts, { predictions, labels, exits } = this.record;
    return `${names[labels[row]]}; exit ${k + 1}: ${names[predictions[row * exits + k]]}${right ? "" : ", incorrect"}`;
  }

  #places() {
    this.focused = this.tiles.includes(document.activeElement) ? document.activeElement : null;
    return calm.matches || !this.exits ? [] : this.tiles.map((tile) => [tile.offsetLeft, tile.offsetTop]);
  }

  #move(before) {
    const now = before.map((_, i) => [this.tiles[i].offsetLeft, this.tiles[i].offsetTop]);
    before.forEach(([left, top], i) => {
      const x = left - now[i][0], y = top - now[i][1];
      if (x || y) this.tiles[i].animate([{ transform: `translate(${x}px, ${y}px)` }, { transform: "none" }], MOVE);
    });
  }

  #tell(i) {
    const { facts, record } = this, row = facts.tiles[i], { exits } = record;
    const parts = facts.stages.map((_, k) => {
      const answer = record.predictions[row * exits + k], right = answer === record.labels[row];
      return `exit ${k + 1}: ${facts.class_names[answer]} ${scoreText(record.scores[row * exits + k], facts.policy)} ${right ? "✓" : "✗"}`;
    });
    find("detail").textContent = `${facts.class_names[record.labels[row]]}. In the record, ${parts.join(" · ")}`;
  }

  // One tile at a time is in the page's order of keys; arrows go from tile to tile.
  #roam(i) {
    for (const tile of this.tiles) tile.tabIndex = -1;
    this.tiles[i].tabIndex = 0;
    this.#tell(i);
  }

  #key(event) {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    const order = [...find("piles").querySelectorAll(".tile")];
    order[order.indexOf(event.currentTarget) + step]?.focus();
    event.preventDefault();
  }
}
