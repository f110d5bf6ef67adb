// What DMPO changes, part by part: the bypass, the second-order classifier, the phases of the loss weights; each with a
// figure of this run's own weights or history.

import { overEpochs } from "./chart.js";
import { bound, chips, element, exitNames, percent, whole } from "./parts.js";

const box = (x, y, wide, lines, own = "") => [
  element("svg:rect", { x, y, width: wide, height: 46, rx: 8, class: `box ${own}` }),
  ...lines.map((text, i) => element("svg:text", { x: x + wide / 2, y: y + 20 + 16 * i, class: "middle" }, text)),
];
const way = (d) => element("svg:path", { d, class: "run", pathLength: 1 });

const bypass = ({ facts }) => {
  const { blocks, flops, reference_flops: reference, story: { made } } = facts, more = flops.at(-1) / reference - 1;
  if (made.bypass === "none") return [element("p", {}, "This run has none: an exit reads the tokens of the network itself.")];
  const weights = made.bypass_weights, from = blocks[0] + 1, label = "The first blocks, then two ways: through the bypass to exit 1's classifier, and unchanged to the next block";
  const drawing = element("svg:svg", { viewBox: "0 0 420 172", role: "img", "aria-label": label, class: "chart scheme" },
    way("M112 138 H262"), way("M150 138 V43 H160"), way("M292 43 H306"),
    ...box(4, 115, 108, [`blocks 1 to ${blocks[0]}`, "shared"]), ...box(262, 115, 154, [`blocks ${from} to ${blocks.at(-1)}`, "shared"]),
    ...box(160, 20, 132, ["bypass", ...(weights ? [`${whole(weights)} weights`] : [])], "own"), ...box(306, 20, 110, ["classifier", "of exit 1"], "own"),
    element("svg:text", { x: 206, y: 160, class: "middle" }, "unchanged"));
  const cost = more > 0 ? ` All bypasses and classifiers together add ${percent(more)} to the compute of the plain network.` : "";
  return [drawing, element("p", {}, bound(`The bypass “${made.bypass}” of exit 1 changes features for its own classifier; the next block gets them unchanged.${cost}`))];
};

// Weights of pairs, int8 in base64, as a symmetric picture of d × d squares.
const matrix = (canvas, packed) => {
  const weights = Int8Array.from(atob(packed), (letter) => letter.charCodeAt(0)), d = (Math.sqrt(8 * weights.length + 1) - 1) / 2;
  const pen = canvas.getContext("2d"), style = getComputedStyle(canvas);
  canvas.width = canvas.height = d;
  for (let i = 0, at = 0; i < d; i++) {
    for (let j = i; j < d; j++, at++) {
      pen.fillStyle = style.getPropertyValue(weights[at] > 0 ? "--blue" : "--orange");
      pen.globalAlpha = Math.abs(weights[at]) / 127;
      pen.fillRect(i, j, 1, 1);
      if (i !== j) pen.fillRect(j, i, 1, 1);
    }
  }
  return d;
};

const secondOrder = ({ facts }) => {
  const { class_names: names, story: { made } } = facts, { pairs } = made;
  if (made.predictor === "linear") return [element("p", {}, "This run's exits are linear: they read single features, no second-order statistics.")];
  if (!pairs) return [element("p", {}, `The classifier “${made.predictor}” also reads how features vary together over the image.`)];
  const canvas = element("canvas", { class: "matrix", role: "img" }), said = element("p", { role: "status" }), of = Object.entries(pairs.classes);
  const show = (i) => requestAnimationFrame(() => { // its colours are known once it is on the page
    const name = names[of[i][0]], d = matrix(canvas, of[i][1]);
    canvas.setAttribute("aria-label", `Weights of all pairs of features for ${name}`);
    said.textContent = `Beside ${whole(pairs.singles)} single features exit 1 reads how ${d} mixtures of them vary together: ${whole((d * (d + 1)) / 2)} pairs. A square is a pair's weight for “${name}”: blue speaks for it, orange against it.`;
  });
  const plain = "A linear classifier asks: is there green, is there round? This one also asks whether they occur together.";
  return [element("p", {}, plain), element("div", { class: "beside" }, canvas, said), chips("Class", of.map(([c]) => names[c]), show, 0)];
};

const phases = ({ facts }) => {
  const { made, training: { weight } } = facts.story, most = Math.max(...weight.flat()), K = weight.length;
  const { chart, light } = overEpochs(facts, weight.map((own) => own.map((value) => value / most)), "Weight of every exit's loss over the epochs", [0, 1, 0.5]);
  const leader = (epoch) => 1 + [...Array(K).keys()].reduce((best, k) => (weight[k].at(epoch) > weight[best].at(epoch) ? k : best), 0);
  const [first, last] = [leader(0), leader(-1)], words = first === last ? "" : ` First the loss of exit ${first} counts most, at the end that of exit ${last}.`;
  return [element("p", {}, `Schedule “${made.schedule}”: the weight of each exit's loss, largest = 100\u00a0%.${words}`), chart.node, chips("Follow", exitNames(facts), light)];
};

export const changes = (world) => {
  const parts = [["Bypass", bypass], ["Second order", secondOrder], ["Two phases", phases]], place = element("div", { class: "part" });
  return {
    title: "What DMPO changes",
    text: "DMPO, Decoupled Multi-Predictor Optimization, separates the two tasks. A bypass lets each exit change its own features only. Early exits read second-order statistics, which separate classes sooner. And the loss weights shift: first the deep exits count most, then the early ones.",
    hint: "Look at one part after the other.",
    figure: [chips("Part", parts.map(([name]) => name), (i) => place.replaceChildren(...parts[i][1](world)), 0), place],
  };
};
