// What a row of counts means, written as the library writes it.
// A row: correct and incorrect at exit 1, correct and incorrect at exit 2, …

const numbersOf = (row, costs) => {
  let images = 0, correct = 0, spent = 0;
  for (let k = 0; k < costs.length; k++) {
    const here = row[2 * k] + row[2 * k + 1];
    images += here;
    correct += row[2 * k];
    spent += here * costs[k];
  }
  return {
    images,
    accuracy: correct / images,
    compute: spent / images,
  };
};

// Wilson's 95 % interval of a share of `n` images, as dx.analysis.accuracy_interval.
const intervalOf = (share, n) => {
  const z2 = 1.959963984540054 ** 2, middle = (share + z2 / (2 * n)) / (1 + z2 / n);
  const half = Math.sqrt((z2 * (share * (1 - share) + z2 / (4 * n))) / n) / (1 + z2 / n);
  return [Math.max(0, middle - half), Math.min(1, middle + half)];
};

// As Python's format: a tie goes to the even digit.
const fixed = (x, digits) => {
  const halves = Math.abs(x) * 2 ** (digits + 1); // exact; odd where x lies midway between two texts
  if (halves % 2 !== 1) return x.toFixed(digits);
  const below = Math.floor(Math.abs(x) * 10 ** digits);
  return (Math.sign(x) * (below + (below % 2)) / 10 ** digits).toFixed(digits);
};

const percent = (x, digits) => fixed(100 * x, digits) + "%";

// A percentage with a minus sign, and none before zero.
const signed = (x, digits) => percent(x, digits).replace(/^-(?=[0.]+%$)/, "").replace("-", "−");

// Points of accuracy, with a sign.
const change = (x) => (x < 0 ? "−" : "+") + fixed(Math.abs(100 * x), 1);

const points = (x) => {
  const text = fixed(Math.abs(100 * x), 2);
  return Number(text) === 0 ? "as good as" : (x > 0 ? "+" : "−") + text + " points vs";
};

const wholes = new Intl.NumberFormat("en-US"); // toLocaleString makes one at every call
const whole = (n) => wholes.format(n);

// Round numbers between two bounds, at most `most` or so.
const ticks = (low, high, most) => {
  const rough = (high - low) / most || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough - 1e-12);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => (first + i) * step);
};

const nearest = (values, wanted) => {
  let best = 0;
  values.forEach((value, i) => {
    if (Math.abs(value - wanted) < Math.abs(values[best] - wanted)) best = i;
  });
  return best;
};

// Where a stop is now that others may have come or gone.
const samePlace = (old, place, slider) => {
  const found = slider.stops.indexOf(old.stops[place]);
  if (found >= 0) return found;
  return Math.round((place / Math.max(1, old.stops.length - 1)) * (slider.stops.length - 1));
};

// Elements, with attributes and text; never HTML.
const element = (name, attributes = {}, ...inside) => {
  const svg = ["svg", "g", "path", "circle", "rect", "line", "text", "defs", "pattern", "title"].includes(name);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...inside);
  return made;
};
