// Small things that every part of the page needs: elements, numbers as text.

export const find = (id) => document.getElementById(id);

/** An element with attributes and children; texts are texts, never HTML. */
export const element = (name, attributes = {}, ...children) => {
  const made = name.includes(":") ? document.createElementNS("http://www.w3.org/2000/svg", name.slice(4)) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value === undefined) continue;
    made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children);
  return made;
};

/** A bar with words; in the story it grows when its step is seen. */
export const bar = (share, colour, words, amount) => {
  const filled = element("i"), node = element("div", { class: "grows" }, filled, element("span", {}, words), element("b", {}, amount));
  filled.style.width = length(share);
  filled.style.setProperty("--own", colour);
  return node;
};

/** Buttons of which one is pressed: `act(i)`, or `act(null)` where none is any more. With `first` always one is. */
export const chips = (title, names, act, first = null) => {
  const buttons = names.map((name) => element("button", { type: "button", "aria-pressed": "false" }, name));
  const press = (i) => {
    buttons.forEach((one, k) => one.setAttribute("aria-pressed", String(k === i)));
    act(i);
  };
  buttons.forEach((button, i) => button.addEventListener("click", () => press(first === null && button.getAttribute("aria-pressed") === "true" ? null : i)));
  if (first !== null) press(first);
  return element("div", { class: "buttons", role: "group", "aria-label": title }, ...buttons);
};
export const exitNames = (facts) => facts.flops.map((_, k) => `exit ${k + 1}`);

/** As Python's format: a tie goes to the even digit. */
export const fixed = (x, digits) => {
  const halves = Math.abs(x) * 2 ** (digits + 1); // exact; odd where x lies midway between two texts
  if (halves % 2 !== 1) return x.toFixed(digits);
  const below = Math.floor(Math.abs(x) * 10 ** digits);
  return ((Math.sign(x) * (below + (below % 2))) / 10 ** digits).toFixed(digits);
};
export const percent = (share, digits = 1) => `${fixed(100 * share, digits)} %`;
/** A text in which numbers and their units stay on one line. */
export const bound = (text) => text.replace(/(\d) (%|MB|GFLOPs)/g, "$1\u00a0$2");
/** A share as a length of CSS. */
export const length = (share) => `${(100 * Math.min(1, Math.max(0, share))).toFixed(2)}%`;
/** 12345 → 12,345; `toLocaleString` takes a tenth of a second when it is first called. */
export const whole = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, ",");
export const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
export const gigaflops = (flops) => `${(flops / 1e9).toFixed(2)} GFLOPs`;

/** A difference of two shares, in points. */
export const points = (from, to) => `${fixed(100 * (to - from), 1).replace(/^-(?=[0.]+$)/, "").replace("-", "−")} points`;
/** How accurate one is beside another, in words before its name. */
export const besides = (accuracy, other) => {
  const change = other - accuracy;
  return Math.abs(change) < 0.0005 ? "as accurate as" : `${points(0, Math.abs(change))} ${change > 0 ? "less" : "more"} accurate than`;
};

/** A score of the policy as text. */
export const scoreText = (score, { unit }, digits = 1) => (unit === "%" ? percent(score, digits) : `${fixed(score, 2)} ${unit}`.trimEnd());

/** A threshold of the policy as text: it need not be one of the score that is drawn. Beyond the ends as the library says it. */
export const thresholdText = (threshold, { threshold_unit: unit }) => {
  if (unit === "%" && threshold > 1) return "more than 100 %";
  if (unit === "nats" && threshold < 0) return "less than 0 nats";
  return unit || threshold < 1e6 ? scoreText(threshold, { unit }) : "more than there are exits";
};

/** "at …" the threshold that the page begins with; "here" where no single one decides. */
export const atStart = ({ slider: { thresholds, place }, policy }) => (thresholds.length > 1 ? `at ${thresholdText(thresholds[place], policy)}` : "here");

export const capital = (text) => text[0].toUpperCase() + text.slice(1);

/** Whether a key is one of the browser's or of the system's. */
export const modified = (event) => event.altKey || event.ctrlKey || event.metaKey;

export const calm = matchMedia("(prefers-reduced-motion: reduce)");
