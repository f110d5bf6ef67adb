// The page: one threshold for one picture, computed here, and for the record's many, counted here.

import { Curve } from "./curve.js";
import { Engine, hasGpu } from "./engine.js";
import { Exits } from "./exits.js";
import { kept, tidy } from "./fetching.js";
import { Mosaic } from "./mosaic.js";
import { element, find, megabytes, percent, thresholdText, whole } from "./parts.js";
import { Camera, Pictures, draw, opened } from "./picture.js";
import { countsOf, numbersOf, readRecord } from "./record.js";
import { prepared } from "./resize.js";
import { exitsWith } from "./scores.js";

const facts = await (await fetch("page.json")).json();
find("served").hidden = true;
const { policy, slider } = facts, engine = new Engine(facts), last = facts.stages.length - 1;
const state = { place: slider.place, picture: null, input: null, answers: [], busy: null, failed: null, note: "" };
const threshold = () => slider.thresholds[state.place];

// -- one picture --

const exits = new Exits(facts, (value) => {
  const near = slider.thresholds.map((t) => Math.abs(t - value));
  moveTo(near.indexOf(Math.min(...near)));
});
const stopOf = () => {
  const found = state.answers.findIndex(({ score }, k) => k === last || exitsWith(score, threshold(), policy.falling));
  return found < 0 ? null : found;
};
const showPicture = () => {
  const { answers, busy, failed, note } = state, stop = stopOf();
  exits.show({ answers, stop, busy, failed: failed ?? (note && { text: note }), here: engine.here, threshold: threshold() });
  const retry = element("button", { type: "button" }, "Try again");
  retry.addEventListener("click", () => ((state.failed = null), advance()));
  showKeep();
  const shown = [...(failed ? [retry] : []), ...offers], place = find("more");
  if (shown.length !== place.children.length || failed) place.replaceChildren(...shown);
  document.documentElement.dataset.stop = stop === null ? "" : String(stop + 1);
};

let running = false, turn = null;
// Run one stage after another until the picture exits; a stage is fetched when it is its turn. Resolves when that is done.
const advance = () => (turn = running ? turn : run());
const run = async () => {
  running = true;
  while (state.picture && !state.failed && stopOf() === null) {
    const { picture, answers } = state, k = answers.length; // `take` replaces both
    try {
      state.busy = engine.loaded[k] ? null : { stage: k, done: 0 };
      showPicture();
      await engine.load(k, (done) => ((state.busy = { stage: k, done }), showPicture()));
      state.busy = null;
      if (state.answers !== answers) continue;
      state.input ??= prepared(picture, facts.preprocess);
      answers.push(await engine.run(k, state.input));
    } catch (error) {
      state.busy = null;
      if (state.answers !== answers) continue;
      state.failed = { stage: k, text: navigator.onLine ? `Stage ${k + 1}: ${error.message}` : `Stage ${k + 1} is not here, and there is no network.` };
    }
  }
  running = false;
  showPicture();
};

const take = (picture, name) => {
  Object.assign(state, { picture, input: null, answers: [], failed: null, note: "" });
  draw(find("picture"), picture);
  find("picture").setAttribute("aria-label", name);
  showPicture();
  return advance();
};
const refuse = (error) => {
  state.note = error.message;
  showPicture();
};
const press = (node) => {
  for (const one of find("samples").children) one.setAttribute("aria-pressed", String(one === node));
};
let newest = 0; // a picture that arrives behind one that was chosen later is not taken
const ifNewest = (act) => {
  const own = ++newest;
  return (found) => (own === newest ? act(found) : undefined);
};
const takeTile = async (tile, node) => {
  stopCamera();
  press(node ?? [...find("samples").children].find((one) => one.dataset.tile === String(tile)));
  const label = facts.class_names[record.labels[facts.tiles[tile]]];
  await pictures.at(tile).then(ifNewest((picture) => take(picture, `Sample: ${label}`)), refuse);
};
const takeFile = (file) => {
  stopCamera();
  press(null);
  return opened(file).then(ifNewest((picture) => take(picture, file.name || "Your picture")), refuse);
};

find("file").addEventListener("change", ({ target }) => {
  if (target.files[0]) takeFile(target.files[0]);
  target.value = "";
});
for (const name of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    find("drop").classList.toggle("over", name === "dragover");
    if (name === "drop" && event.dataTransfer.files[0]) takeFile(event.dataTransfer.files[0]);
  });
}
document.addEventListener("paste", (event) => event.clipboardData.files[0] && takeFile(event.clipboardData.files[0]));

const camera = new Camera(find("video"));
const stopCamera = () => {
  if (!camera.stream) return;
  camera.stop();
  find("camera").setAttribute("aria-pressed", "false");
  find("camera").textContent = "Webcam";
};
find("camera").addEventListener("click", async () => {
  if (camera.stream) return stopCamera();
  find("camera").disabled = true; // until the visitor has answered: a second press would open a second stream
  try {
    await camera.start();
  } catch (error) {
    return refuse(error);
  } finally {
    find("camera").disabled = false;
  }
  newest += 1;
  press(null);
  find("camera").setAttribute("aria-pressed", "true");
  find("camera").textContent = "Stop the webcam";
  const { stream } = camera;
  while (stream && camera.stream === stream) {
    const frame = camera.frame();
    if (frame) await take(frame, "The webcam's picture");
    await new Promise((done) => setTimeout(done, 150));
  }
});

// -- more that a visitor may choose --

const offers = [];
const keep = element("button", { type: "button" });
const showKeep = () => {
  const left = facts.stages.reduce((sum, { bytes }, k) => sum + (engine.here[k] ? 0 : bytes), 0);
  if (!keep.disabled) keep.textContent = `Keep all stages for use offline (${megabytes(left)} more)`;
  if (!left) keep.textContent = "All stages are here";
  keep.disabled ||= !left;
};
keep.addEventListener("click", async () => {
  keep.disabled = true;
  try {
    await engine.keepAll((k, done) => (keep.textContent = `Stage ${k + 1}: ${megabytes(done)} of ${megabytes(facts.stages[k].bytes)}`));
  } catch (error) {
    keep.disabled = false;
    refuse(error);
  }
  showPicture();
});
const offerGpu = async () => {
  if (!(await hasGpu())) return;
  const choice = element("select", { "aria-label": "Compute on" }, element("option", { value: "wasm" }, "Compute on the CPU"), element("option", { value: "webgpu" }, "Compute on the GPU"));
  choice.addEventListener("change", () => {
    engine.start(choice.value); // the stage that runs fails; that is no error, for `take` replaces its answers
    if (state.picture) take(state.picture, find("picture").getAttribute("aria-label"));
  });
  offers.push(choice);
};

// -- the threshold --

const moveTo = (place) => {
  find("threshold").value = String(place);
  moved();
};
let waiting = 0;
const moved = () => (waiting ||= requestAnimationFrame(() => {
  waiting = 0;
  state.place = Number(find("threshold").value);
  state.note = "";
  showThreshold();
  showPicture();
  advance();
}));
const showThreshold = () => {
  const now = positions[state.place], shown = thresholdText(threshold());
  find("value").textContent = shown;
  find("threshold").setAttribute("aria-valuetext", `${shown}: accuracy ${percent(now.accuracy)}, compute ${percent(now.compute)}`);
  find("accuracy").textContent = percent(now.accuracy, 2);
  find("compute").textContent = percent(now.compute);
  find("mean").textContent = now.mean.toFixed(2);
  find("early").textContent = percent(now.early);
  curve.show(state.place);
  mosaic.show(threshold(), now);
};

// -- the beginning --

const pictures = new Pictures();
showPicture();
const opening = Promise.all([readRecord(facts), pictures.open(facts), engine.start()]);
opening.catch(refuse);
const [record] = await opening;
const fractions = facts.flops.map((flops) => flops / facts.reference_flops);
const positions = slider.thresholds.map((t) => {
  const counts = countsOf(record, t, policy.falling);
  return { ...counts, ...numbersOf(counts, fractions) };
});
const mosaic = new Mosaic(facts, record, pictures, (tile) => {
  if (!pictures.has(tile)) return;
  takeTile(tile);
  find("one").scrollIntoView({ behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
});
const curve = new Curve(positions, moveTo);

find("all").textContent = `${whole(record.images)} ${facts.split} images`;
const hint = pictures.facts?.exact ? " Click an image to run it above." : pictures.facts ? " Of these images, only the samples above can be run." : "";
find("rule").textContent = policy.rule + hint;
find("notes").replaceChildren(...[...facts.facts, ...facts.notes, `Made by ${facts.made_by}.`].map((text) => element("li", {}, text)));
for (const tile of facts.samples) {
  const sample = element("button", { type: "button", class: "tile", "aria-pressed": "false", "data-tile": tile });
  sample.setAttribute("aria-label", facts.class_names[record.labels[facts.tiles[tile]]]);
  pictures.dress(sample, tile);
  sample.addEventListener("click", () => takeTile(tile, sample));
  find("samples").append(sample);
}
const range = find("threshold");
range.max = String(slider.thresholds.length - 1);
range.disabled = find("back").disabled = false;
range.value = String(state.place);
find("back").textContent = `Back to ${thresholdText(threshold())}`;
range.addEventListener("input", moved);
find("back").addEventListener("click", () => moveTo(slider.place));
showThreshold();
if (await kept()) offers.push(keep);
await offerGpu();
showPicture();
document.documentElement.dataset.ready = "yes";
navigator.serviceWorker?.register("service-worker.js").catch(() => {});
const runtime = Object.values(facts.runtime).filter((parts) => parts.script).flatMap(({ script, binary }) => [script, binary]);
const { labels, predictions, scores } = facts.record, drawn = facts.pictures;
tidy([...facts.stages, ...runtime, labels, predictions, scores, ...(drawn ? [drawn.sheet, ...Object.values(drawn.samples)] : [])]);
if (facts.samples.length && !navigator.connection?.saveData) takeTile(facts.samples[0]);
