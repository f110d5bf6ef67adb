// The threshold: one slider for everything on the page. What plays moves it too; only a visitor's hand chooses.

import { bound, find, modified, percent, thresholdText } from "./parts.js";

const nearest = (values, value) => {
  const distances = values.map((one) => Math.abs(one - value));
  return distances.indexOf(Math.min(...distances));
};

// Where positions lie on the slider: at their thresholds, rising; "all" and "none" lie beside the others, not far off.
const evenly = (thresholds) => {
  const sign = thresholds[0] <= thresholds.at(-1) ? 1 : -1, values = thresholds.map((t) => sign * t);
  if (values.length < 4) return values;
  const low = values[1], high = values.at(-2), gap = (high - low) / 40;
  return values.map((value) => Math.min(high + gap, Math.max(low - gap, value)));
};

export class Threshold {
  constructor({ slider, policy }, numbers) {
    Object.assign(this, { slider, policy, numbers, place: slider.place, chosen: slider.place, listeners: [] });
    this.range = find("threshold");
    this.scale = evenly(slider.thresholds);
    [this.range.min, this.range.max] = [this.scale[0], this.scale.at(-1)].map(String);
    find("back").textContent = `Back to ${thresholdText(this.value, policy)}`;
    find("pick").hidden = slider.thresholds.length < 2;
    this.range.addEventListener("input", () => this.choose(nearest(this.scale, Number(this.range.value))));
    this.range.addEventListener("keydown", (event) => { // from position to position, however near they lie
      const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10 }[event.key];
      if (!step || modified(event)) return;
      event.preventDefault();
      this.choose(Math.min(slider.thresholds.length - 1, Math.max(0, this.place + step)));
    });
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
    this.choose(nearest(this.slider.thresholds, value));
  }

  #move(place, byHand) {
    if (place === this.place && !byHand) return;
    this.place = place;
    this.#show();
    for (const act of this.listeners) act(place, byHand);
  }

  #show() {
    const text = thresholdText(this.value, this.policy), { accuracy, compute } = this.numbers[this.place];
    this.range.value = String(this.scale[this.place]);
    find("value").textContent = bound(text);
    this.range.setAttribute("aria-valuetext", `${text}: accuracy ${percent(accuracy)}, compute ${percent(compute)}`);
  }
}
