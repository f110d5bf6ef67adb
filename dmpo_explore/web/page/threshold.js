// The threshold: one slider for everything on the page. What plays moves it too; only a visitor's hand chooses.

import { find, percent, scoreText } from "./parts.js";

export class Threshold {
  constructor({ slider, policy }, numbers) {
    Object.assign(this, { slider, policy, numbers, place: slider.place, chosen: slider.place, listeners: [] });
    this.range = find("threshold");
    this.range.max = String(slider.thresholds.length - 1);
    find("back").textContent = `Back to ${scoreText(this.value, policy)}`;
    find("pick").hidden = slider.thresholds.length < 2;
    this.range.addEventListener("input", () => this.choose(Number(this.range.value)));
    find("back").addEventListener("click", () => this.choose(slider.place));
    this.#show();
    this.range.disabled = find("back").disabled = false;
  }

  get value() {
    return this.slider.thresholds[this.place];
  }

  /** `act(place, byHand)` is called after every move. */
  listen(act) {
    this.listeners.push(act);
  }

  /** Show a position; nothing is chosen. */
  show(place) {
    this.#move(place, false);
  }

  choose(place) {
    this.chosen = place;
    this.#move(place, true);
  }

  /** Choose the position whose threshold is nearest. */
  aim(value) {
    const near = this.slider.thresholds.map((t) => Math.abs(t - value));
    this.choose(near.indexOf(Math.min(...near)));
  }

  #move(place, byHand) {
    if (place === this.place && !byHand) return;
    this.place = place;
    this.#show();
    for (const act of this.listeners) act(place, byHand);
  }

  #show() {
    const text = scoreText(this.value, this.policy), { accuracy, compute } = this.numbers[this.place];
    this.range.value = String(this.place);
    find("value").textContent = text;
    this.range.setAttribute("aria-valuetext", `${text}: accuracy ${percent(accuracy)}, compute ${percent(compute)}`);
  }
}
