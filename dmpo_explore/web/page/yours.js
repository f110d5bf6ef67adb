// One picture, computed here: a sample, a file, or the webcam runs through the stages until it exits.

import { brush } from "./brush.js";
import { Engine, hasGpu } from "./engine.js";
import { Exits } from "./exits.js";
import { kept, tidy } from "./fetching.js";
import { element, find, megabytes } from "./parts.js";
import { Camera, draw, opened } from "./picture.js";
import { prepared } from "./resize.js";
import { exitsWith } from "./scores.js";
import { teach } from "./teach.js";

/** Begin; returns `takeTile(tile)`, which runs a tile's picture. What plays moves the threshold; here the chosen one counts. */
export const begin = async ({ facts, tiles, pictures }, bar) => {
  if (!globalThis.WebAssembly) throw new Error("this browser has no WebAssembly, or it is turned off");
  const { policy, slider } = facts, engine = new Engine(facts), last = facts.stages.length - 1;
  const state = { picture: null, input: null, answers: [], busy: null, failed: null, note: "", whole: null, toEnd: false, truth: undefined };
  const threshold = () => slider.thresholds[bar.chosen];

  const exits = new Exits(facts, (value) => bar.aim(value));
  const stopOf = () => {
    const found = state.answers.findIndex(({ score }, k) => k === last || exitsWith(score, threshold(), policy.falling));
    return found < 0 ? null : found;
  };
  const showPicture = () => {
    const { answers, busy, failed, note } = state, stop = stopOf();
    exits.show({ answers, stop, busy, truth: state.truth, failed: failed ?? (note && { text: note }), here: engine.here, threshold: threshold(), where: engine.where });
    const retry = element("button", { type: "button" }, "Try again");
    retry.addEventListener("click", () => ((state.failed = null), advance()));
    showKeep();
    const shown = [...(failed ? [retry] : []), ...offers], place = find("more");
    if (shown.length !== place.children.length || failed) place.replaceChildren(...shown);
    document.documentElement.dataset.stop = stop === null ? "" : String(stop + 1);
  };

  // Compute elsewhere, from the first stage on; `instead`: why not where it was.
  const computeOn = (backend, instead) => {
    Object.assign(state, { input: null, answers: [], failed: null });
    choice.value = backend;
    return engine.start(backend, instead).then(showPicture);
  };
  let running = false, turn = null;
  // Run one stage after another until the picture exits; a stage is fetched when it is its turn. Resolves when that is done.
  const advance = () => (turn = running ? turn : run());
  const run = async () => {
    running = true;
    while (state.picture && !state.failed && (state.toEnd ? state.answers.length <= last : stopOf() === null)) {
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
        if (error.computing && engine.backend === "webgpu") {
          computeOn("wasm", error.message);
          continue;
        }
        state.failed = { stage: k, text: navigator.onLine ? `Stage ${k + 1}: ${error.message}` : `Stage ${k + 1} is not here, and there is no network.` };
      }
    }
    running = false;
    showPicture();
  };

  // `whole`: what it was before parts were covered.
  const take = (picture, name, truth, whole = null) => {
    Object.assign(state, { picture, truth, whole, input: null, answers: [], failed: null, note: "" });
    draw(find("picture"), picture);
    find("picture").setAttribute("aria-label", name);
    find("brush").disabled = false;
    find("uncover").hidden = !whole;
    showPicture();
    return advance();
  };
  const nameOf = () => find("picture").getAttribute("aria-label");
  const isOn = () => find("brush").getAttribute("aria-pressed") === "true";
  find("brush").addEventListener("click", () => {
    const on = !isOn(), canvas = find("picture");
    find("brush").setAttribute("aria-pressed", String(on));
    document.documentElement.dataset.brush = on ? "on" : "";
    find("spot").hidden = !on;
    canvas.setAttribute("role", on ? "application" : "img");
    canvas.tabIndex = on ? 0 : -1;
    if (on) canvas.focus({ preventScroll: true });
  });
  find("uncover").addEventListener("click", () => take(state.whole, nameOf(), state.truth));
  brush(find("picture"), find("spot"), isOn, () => state.picture, (picture) => {
    stopCamera();
    take(picture, nameOf(), state.truth, state.whole ?? state.picture);
  });
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
    const truth = tiles.labels[tile];
    await pictures.at(tile).then(ifNewest((picture) => take(picture, `Sample: ${facts.class_names[truth]}`, truth)), refuse);
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
  const choice = element("select", { "aria-label": "Compute on" }, element("option", { value: "webgpu" }, "Compute on the GPU"), element("option", { value: "wasm" }, "Compute on the CPU"));
  choice.addEventListener("change", () => {
    computeOn(choice.value); // the stage that runs fails; that is no error, for its answers are replaced
    if (state.picture) advance();
  });

  teach(facts, async () => {
    stopCamera();
    state.toEnd = true;
    await advance();
    state.toEnd = false;
    const { picture, answers } = state;
    return answers.length > last ? { picture, logits: answers.map(({ logits }) => logits) } : null;
  });

  bar.listen((_, byHand) => {
    if (!byHand) return;
    state.note = "";
    showPicture();
    advance();
  });
  for (const tile of facts.samples) {
    const sample = element("button", { type: "button", class: "tile", "aria-pressed": "false", "data-tile": tile });
    sample.setAttribute("aria-label", facts.class_names[tiles.labels[tile]]);
    pictures.dress(sample, tile);
    sample.addEventListener("click", () => takeTile(tile, sample));
    find("samples").append(sample);
  }
  const backend = (await hasGpu()) ? "webgpu" : "wasm", cache = await kept();
  const sum = (files) => megabytes(files.reduce((all, file) => all + (file?.bytes ?? 0), 0)), { script, binary } = facts.runtime[backend];
  const stays = cache ? "they stay here for the next visit, also without a network" : "this browser keeps no files, so they come again at the next visit";
  find("total").textContent = `Pictures stay on this device. To download: the first two stages ${sum(facts.stages.slice(0, 2))} and onnxruntime-web ${sum([script, binary])}; all ${facts.stages.length} stages are ${sum(facts.stages)}. A stage comes when a picture needs it; ${stays}.`;
  if (backend === "webgpu") offers.push(choice);
  if (cache) offers.push(keep);
  showPicture();
  engine.start(backend).then(showPicture, refuse);
  (async () => navigator.serviceWorker?.register("service-worker.js"))().catch(() => {}); // not everywhere permitted
  const runtime = Object.values(facts.runtime).filter((parts) => parts.script).flatMap((parts) => [parts.script, parts.binary]);
  const { labels, predictions, scores, exits: exited } = facts.tiles, drawn = facts.pictures, ran = facts.running.flatMap(({ picture }) => picture ?? []);
  tidy([...facts.stages, ...runtime, labels, predictions, scores, exited, ...ran, ...(drawn ? [drawn.sheet, ...Object.values(drawn.samples)] : [])]);
  if (facts.samples.length && !navigator.connection?.saveData) takeTile(facts.samples[0]);
  return takeTile;
};
