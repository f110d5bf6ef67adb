// The numbers behind the story: targets fitted on held-out images, calibration of every exit.

import { Chart } from "./chart.js";
import { element, fixed, percent, whole } from "./parts.js";

const section = (title, text, ...nodes) => element("section", {}, element("h3", {}, title), element("p", { class: "quiet" }, text), ...nodes);

const targets = ({ split, rows }, facts) => {
  const head = ["target", "accuracy [95 %]", "compute", "mean exit", "exit shares (%)"].map((text) => element("th", { scope: "col" }, text));
  const body = rows.map(({ targets: names, accuracy, interval, compute, mean, shares }) => element("tr", {}, ...[
    names.join(", "), `${percent(accuracy, 2)} [${interval.map((end) => percent(end, 2)).join(", ")}]`, percent(compute), fixed(mean, 2), shares.map((share) => fixed(100 * share, 0)).join(" "),
  ].map((text) => element("td", {}, text))));
  const table = element("table", {}, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...body));
  return section("Targets", `Fitted on ${split}, measured on ${whole(facts.images)} ${facts.split} images.`, element("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "Targets" }, table));
};

const calibration = (exits, colours) => section(
  "Calibration of every exit",
  "On the diagonal, as many answers are correct as the confidence says. Above it an exit is too cautious, below it too sure. Bins with fewer than 20 images are joined.",
  element("div", { class: "small" }, ...exits.map((bins, k) => {
    const chart = new Chart({
      title: `Exit ${k + 1}: accuracy over confidence`, label: "confidence", wide: 200, high: 180, diagonal: true, xs: [0, 1, 0.5], ys: [0, 1, 0.5],
      lines: [{ points: bins, colour: colours[k], dots: 4 }],
    });
    return element("figure", {}, element("figcaption", {}, `Exit ${k + 1}`), chart.node);
  })),
);

/** Fill a place with what the run has. */
export const details = (place, facts) => {
  const { story, colours } = facts;
  place.append(
    ...(story.targets ? [targets(story.targets, facts)] : []),
    calibration(story.calibration, colours),
  );
};
