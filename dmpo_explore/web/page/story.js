// The story: eight steps, each one idea, one figure that moves once, one thing to try. All numbers are the run's own.

import { changes } from "./changes.js";
import { Chart, overEpochs, ticksOf } from "./chart.js";
import { Curve } from "./curve.js";
import { atStart, bar, besides, bound, calm, capital, chips, element, exitNames, find, fixed, gigaflops, length, modified, percent, points, scoreText, thresholdText, whole } from "./parts.js";
import { exitsWith } from "./scores.js";

const BINS = 20, SHOWN = 14;
const row = (...nodes) => element("div", { class: "story-row" }, ...nodes);

// -- the steps: { title, text, hint, figure } --

const depth = ({ facts }) => {
  const { flops, reference_flops: reference, blocks, colours, story: { accuracies } } = facts, K = flops.length, said = element("p", { role: "status" });
  const rows = flops.map((cost, k) => bar(cost / Math.max(...flops, reference), colours[k], `exit ${k + 1}`, `${percent(cost / reference, 0)} · ${percent(accuracies[k])} correct`));
  const tell = (k) => said.textContent = bound(`All ${whole(facts.images)} images stopped at exit ${k + 1}: ${points(accuracies[K - 1], accuracies[k])} of accuracy against the last exit, ${percent(1 - flops[k] / flops[K - 1], 0)} of its compute saved.`);
  return {
    title: "Depth costs",
    text: `A deep network computes block after block, ${gigaflops(reference)} for one image here. Most of that is spent on images that need less: after block ${blocks[0]}, at ${percent(flops[0] / reference, 0)} of the compute, ${percent(accuracies[0])} could be answered correctly; at the end ${percent(accuracies[K - 1])}.`,
    hint: "Stop all images at one exit.",
    figure: [element("div", {}, ...rows), chips("Stop all images at", exitNames(facts), tell, 0), said],
  };
};

const exits = ({ facts, tiles, pictures }) => {
  const { policy, colours, class_names: names } = facts, K = tiles.exits, place = element("div"), frame = element("div", { class: "tile big", role: "img" });
  let turn = 0;
  // images on which the exits do not agree say most
  const unlike = [...Array(tiles.n).keys()].filter((i) => tiles.predictions[i * K] !== tiles.predictions[i * K + K - 1]);
  const order = unlike.length ? unlike : [...Array(tiles.n).keys()], jump = order.length % 37 ? 37 : 1; // through all of them
  const next = () => {
    const i = order[(turn++ * jump) % order.length];
    frame.setAttribute("aria-label", names[tiles.labels[i]]);
    if (pictures.facts) pictures.dress(frame, i);
    else frame.textContent = names[tiles.labels[i]];
    place.replaceChildren(element("p", { class: "quiet" }, `It is: ${names[tiles.labels[i]]}`), ...colours.map((colour, k) => bar(tiles.scores[i * K + k] / policy.highest, colour, `exit ${k + 1}: ${names[tiles.predictions[i * K + k]]} ${tiles.correct(i, k) ? "✓" : "✗"}`, scoreText(tiles.scores[i * K + k], policy, 0))));
  };
  next();
  const other = element("button", { type: "button" }, "Another image");
  other.addEventListener("click", next);
  return {
    title: "An exit is a small classifier",
    text: `After some blocks a small classifier reads what the network knows so far, and answers. Here are ${K} of them. Later ones have seen more blocks, so they are correct more often. The answer of one exit can differ from the next one's, and a later one is not always surer.`,
    hint: "Follow another image through the exits.",
    figure: [element("div", { class: "beside" }, frame, place), other],
  };
};

const confidence = ({ facts, tiles, threshold }) => {
  const { policy } = facts, K = tiles.exits, yes = new Array(BINS).fill(0), no = new Array(BINS).fill(0);
  for (let i = 0; i < tiles.n; i++) {
    const bin = Math.min(BINS - 1, Math.floor((tiles.scores[i * K] / policy.highest) * BINS));
    (tiles.correct(i, 0) ? yes : no)[bin] += 1;
  }
  const most = Math.max(...yes.map((n, b) => n + no[b])), columns = yes.map((n, b) => {
    const good = element("i", { class: "yes" }), bad = element("i", { class: "no" });
    good.style.height = length(n / most);
    bad.style.height = length(no[b] / most);
    return element("span", {}, bad, good);
  });
  const line = element("div", { class: "level" }), plot = element("div", { class: "columns", "aria-hidden": "true" }, ...columns, line), said = element("p", { role: "status" });
  const show = () => {
    const value = threshold.value, out = [0, 0], on = [0, 0];
    for (let i = 0; i < tiles.n; i++) {
      const counts = exitsWith(tiles.scores[i * K], value, policy.falling) ? out : on;
      counts[0] += 1;
      counts[1] += tiles.correct(i, 0);
    }
    line.style.left = length(value / policy.highest);
    const share = ([n, right], text) => (n ? text(percent(right / n, 0)) : "");
    said.textContent = bound(`At ${thresholdText(value, policy)}, ${whole(out[0])} of the ${whole(tiles.n)} images above exit at exit 1${share(out, (part) => `, ${part} of them correct`)}.${share(on, (part) => ` Of the ${whole(on[0])} that go on, it would have had ${part} correct.`)}`);
  };
  threshold.listen(show);
  show();
  const aim = (event) => {
    const { left, width } = plot.getBoundingClientRect();
    threshold.aim(Math.min(1, Math.max(0, (event.clientX - left) / width)) * policy.highest);
  };
  plot.addEventListener("pointerdown", (event) => (plot.setPointerCapture(event.pointerId), aim(event)));
  plot.addEventListener("pointermove", (event) => plot.hasPointerCapture(event.pointerId) && aim(event));
  const side = policy.falling ? "at most" : "at least", known = policy.falling ? "low" : "high";
  return {
    title: "When may an image exit?",
    text: `Each exit also states its ${policy.score}. Where it is ${known}, the answer is usually correct (blue); elsewhere it is often incorrect (orange). So a threshold decides: an image whose ${policy.score} is ${side} the threshold exits, all others go on.`,
    hint: "Drag the red line.",
    figure: [element("p", { class: "quiet" }, `Exit 1: images by their ${policy.score}`), plot, row(element("span", {}, scoreText(0, policy, 0)), element("span", {}, scoreText(policy.highest, policy, 0))), said],
  };
};

const curve = ({ facts, numbers, threshold }) => {
  const drawn = new Curve(numbers, (place) => threshold.choose(place)), now = numbers[facts.slider.place], full = numbers.at(-1), said = element("p", { role: "status" });
  const show = (place) => {
    const { accuracy, compute } = numbers[place];
    drawn.show(place);
    said.textContent = bound(`${thresholdText(facts.slider.thresholds[place], facts.policy)}: ${percent(accuracy, 2)} correct with ${percent(compute)} of the compute.`);
  };
  threshold.listen(show);
  show(threshold.place);
  return {
    title: "What the threshold trades",
    text: `Every threshold is one point: compute across, accuracy upwards. A ${facts.policy.falling ? "high" : "low"} one saves much and makes errors; a ${facts.policy.falling ? "low" : "high"} one runs deep. Near the bend little is lost: at ${percent(now.compute, 0)} of the compute the network is ${besides(now.accuracy, full.accuracy)} at ${percent(full.compute, 0)}, its full depth.`,
    hint: "Drag along the curve and watch the images above.",
    figure: [drawn.node, said],
  };
};

const classes = ({ facts, tiles, pictures, threshold }) => {
  const { story, class_names: names, colours, policy } = facts, K = tiles.exits, [early, deep] = story.classes, said = element("p", { role: "status" }), strips = element("div");
  const at = atStart(facts);
  const list = (title, rows, colour) => element("div", {}, element("h4", {}, title), ...rows.slice(0, 6).map(([c, mean]) => bar(K > 1 ? (mean - 1) / (K - 1) : 1, colour, names[c], fixed(mean, 1))));
  const byExit = (k, place, falling) => {
    const own = [...Array(tiles.n).keys()].filter((i) => tiles.exitOf(i, place) === k);
    return own.sort((a, b) => (falling ? 1 : -1) * (tiles.scores[a * K] - tiles.scores[b * K])).slice(0, SHOWN);
  };
  const tell = (i, tile) => {
    for (const one of strips.querySelectorAll("button")) one.setAttribute("aria-pressed", String(one === tile));
    const rows = colours.map((colour, k) => bar(tiles.scores[i * K + k] / policy.highest, colour, `exit ${k + 1}: ${names[tiles.predictions[i * K + k]]} ${tiles.correct(i, k) ? "✓" : "✗"}`, scoreText(tiles.scores[i * K + k], policy, 0)));
    said.replaceChildren(element("b", {}, names[tiles.labels[i]]), ...rows);
  };
  const strip = (title, rows) => element("div", {}, element("h4", {}, title), element("div", { class: "strip", role: "group", "aria-label": title }, ...rows.map((i) => {
    const tile = element("button", { type: "button", class: "tile", "aria-label": names[tiles.labels[i]], "aria-pressed": "false" });
    if (pictures.facts) pictures.dress(tile, i);
    else tile.textContent = names[tiles.labels[i]];
    tile.addEventListener("click", () => tell(i, tile));
    return tile;
  })));
  const fill = (place, byHand) => {
    if (!byHand) return; // not while it sweeps
    const first = byExit(0, place, policy.score_falls), deep = [...Array(K - 1).keys()].map((k) => K - 1 - k).find((k) => byExit(k, place).length);
    const shown = [first.length && strip("Clearest at exit 1", first), deep && strip(`Exit only at exit ${deep + 1}`, byExit(deep, place, !policy.score_falls))];
    strips.replaceChildren(...shown.filter(Boolean));
    said.replaceChildren();
  };
  threshold.listen(fill);
  fill(threshold.place, true);
  return {
    title: "Which images go deep",
    text: `Images that look typical of their class tend to exit early; unusual views and look-alikes tend to need depth. ${capital(at)} the mean exit of “${names[early[0][0]]}” is ${fixed(early[0][1], 1)}, of “${names[deep[0][0]]}” ${fixed(deep[0][1], 1)}.`,
    hint: "Press an image, and see how sure every exit is; move the slider, and others stand here.",
    figure: [strips, said, element("div", { class: "pair" }, list(`Lowest mean exit, ${at}`, early, colours[0]), list("… and the highest", deep, colours.at(-1)))],
  };
};

const SHARED = "All exits share the blocks. An early exit wants them to decide now; the last wants them to keep what is needed later.";

// How a run's exits are trained, in brackets behind its name.
const kind = (made) => (!made ? "" : made.bypass === "none" && made.predictor === "linear" ? " (ordinary exits)" : made.bypass !== "none" && made.predictor !== "linear" ? " (DMPO)" : "");

// The exits of two trainings on the same images.
const beside = ({ facts }) => {
  const { name, story: { accuracies, against, made } } = facts, said = element("p", { role: "status" });
  const line = (flops, values) => flops.map((cost, k) => [cost / 1e9, values[k]]), most = Math.max(...facts.flops, ...against.flops) / 1e9;
  const chart = new Chart({
    title: `Accuracy of every exit over compute: ${name} and ${against.name}`, label: "GFLOPs for an image", xs: [0, most, most / 4], ys: ticksOf([...accuracies, ...against.accuracies]), across: (x) => x.toFixed(1),
    lines: [{ points: line(facts.flops, accuracies), colour: "var(--blue)", dots: 5 }, { points: line(against.flops, against.accuracies), colour: "var(--orange)", dots: 3 }],
  });
  const ends = (values) => `${percent(values[0])} at its first exit and ${percent(values.at(-1))} at its last`;
  const tell = (k) => said.textContent = bound(`Exit ${k + 1}: ${name} ${percent(accuracies[k])}${k < against.flops.length ? `, ${against.name} ${percent(against.accuracies[k])}` : ""} correct.`);
  const [ours, theirs] = [made, against.made].map((parts, i) => `${[name, against.name][i]}${kind(parts)}`);
  return {
    title: "Training exits together is hard",
    text: `${SHARED} On the same images ${theirs} is correct on ${ends(against.accuracies)}, ${ours} on ${ends(accuracies)}.`,
    hint: "Compare them at one exit.",
    figure: [element("p", { class: "legend" }, element("span", {}, ours), element("span", { class: "other" }, theirs)), chart.node, chips("Compare at", exitNames(facts), tell, 0), said],
  };
};

const conflict = ({ facts }) => {
  const { accuracy } = facts.story.training, K = facts.flops.length, { chart, light } = overEpochs(facts, accuracy, "Validation accuracy of every exit over the epochs", ticksOf(accuracy.flat()));
  return {
    title: "Training exits together is hard",
    text: `${SHARED} With one sum of losses both pull at the same weights. In this training exit 1 went from ${percent(accuracy[0][0], 0)} to ${percent(accuracy[0].at(-1), 0)}, exit ${K} from ${percent(accuracy[K - 1][0], 0)} to ${percent(accuracy[K - 1].at(-1), 0)}.`,
    hint: "Choose an exit and follow its line.",
    figure: [chart.node, chips("Follow", exitNames(facts), light)],
  };
};

const budget = ({ facts, numbers, threshold }) => {
  const { story, policy: { name, temperatures } } = facts, { split, rows } = story.targets, said = element("p", { role: "status" }), most = Math.max(1, ...rows.map(({ compute }) => compute));
  const names = rows.map(({ targets: [target] }) => (/^\d/.test(target) ? `Budget ${target}` : `Target ${target}`));
  const bars = rows.map(({ targets, compute, accuracy }, i) => bar(compute / most, facts.colours[Math.min(i, facts.colours.length - 1)], targets.join(", "), `${percent(compute, 0)} · ${percent(accuracy)} correct`));
  const moves = name === "confidence" && !temperatures.length && facts.slider.thresholds.length > 1; // the targets' policy
  const tell = (i) => {
    if (i === null) return void (said.textContent = "");
    if (moves) threshold.aim(rows[i].threshold);
    const gives = ({ accuracy, compute }) => `${percent(accuracy, 2)} correct with ${percent(compute)} of the compute`, own = gives(rows[i]), near = moves ? gives(numbers[threshold.place]) : own;
    const other = near === own ? "" : ` The slider's nearest position, ${thresholdText(threshold.value, facts.policy)}, has ${near}.`;
    said.textContent = bound(`${names[i]}: ${own}, mean exit ${fixed(rows[i].mean, 2)}; with other images of this kind ${rows[i].interval.map((end) => percent(end)).join(" to ")} could be correct.${other}`);
  };
  const { too_early: early, rescued } = story, K = facts.flops.length;
  return {
    title: "Budget, risk, other images",
    text: `A budget fixes the threshold on images set aside (${split}), ${split === facts.split ? "and this page shows those very images: its numbers are a little too good" : "not on those it is judged by"}. ${capital(atStart(facts))}, ${percent(early)} of all images exit with an error that exit ${K} would not make, and ${percent(rescued)} with a correct answer that it would spoil. Elsewhere errors and compute may rise: fit the threshold again.`,
    hint: moves ? "Choose a target: the slider goes there." : "Choose a target and read what it gives.",
    figure: [element("div", {}, ...bars), chips("Target", names, tell), said],
  };
};

/** Tell the story in a place of the page; steps that the run has no numbers for are left out. */
export const tell = (world) => {
  const { facts } = world, { story } = facts, several = facts.flops.length > 1, slides = facts.slider.thresholds.length > 1;
  const steps = [
    several && depth, several && exits, slides && facts.policy.compared && confidence, slides && curve, several && story.classes[0].length && classes,
    several && (story.against ? beside : story.training?.accuracy && story.training.epochs.length > 1 && conflict), several && story.made && story.training?.weight && changes, several && story.targets && budget,
  ].filter(Boolean).map((make) => make(world));
  const sections = steps.map(({ title, text, hint, figure }, i) => {
    const words = element("div", { class: "telling" }, element("p", { class: "kicker" }, `${i + 1} of ${steps.length}`), element("h2", { id: `step-${i + 1}`, tabindex: -1 }, title), element("p", {}, bound(text)), element("p", { class: "try" }, element("b", {}, "Try: "), hint));
    return element("section", { class: "step", "aria-labelledby": `step-${i + 1}` }, words, element("div", { class: "figure" }, ...figure));
  });
  const keys = element("p", { class: "quiet", tabindex: 0 }, `${steps.length} steps: scroll. After a click or Tab in here, n goes to the next one and p to the previous one.`);
  const place = find("story"), edge = () => parseFloat(getComputedStyle(document.documentElement).scrollPaddingTop) + 8;
  place.replaceChildren(...(steps.length > 1 ? [keys] : []), ...sections);
  place.tabIndex = -1; // a click puts the focus in here
  const seen = new IntersectionObserver((entries) => entries.forEach(({ target, isIntersecting }) => isIntersecting && target.classList.add("seen")), { rootMargin: "0px 0px -25% 0px" });
  for (const section of sections) seen.observe(section);
  // n and p go to the next and the previous step
  place.addEventListener("keydown", (event) => {
    const step = { n: 1, p: -1 }[event.key];
    if (!step || modified(event)) return;
    const tops = sections.map((section) => section.getBoundingClientRect().top), here = tops.filter((top) => top < edge()).length - 1;
    const next = sections[Math.min(sections.length - 1, Math.max(0, here + step))];
    next.scrollIntoView({ behavior: calm.matches ? "auto" : "smooth" });
    next.querySelector("h2").focus({ preventScroll: true });
  });
};
