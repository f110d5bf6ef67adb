// The page: it plays from the record alone, at once; with the model in its folder it also classifies pictures.

import { details } from "./details.js";
import { filesOf } from "./fetching.js";
import { besides, bound, calm, element, find, percent, whole } from "./parts.js";
import { Pictures } from "./picture.js";
import { numbersOf, readTiles } from "./record.js";
import { Show } from "./show.js";
import { tell } from "./story.js";
import { Threshold } from "./threshold.js";

const begin = async () => {
  const facts = await filesOf();
  find("served").hidden = true;
  facts.class_names = facts.class_names.map((name) => name.replaceAll("_", " "));
  const pictures = new Pictures(), numbers = numbersOf(facts);
  const sheet = pictures.open(facts).catch((error) => error); // may come later: the first images run without it
  const [tiles, running] = await Promise.all([readTiles(facts), pictures.running(facts)]);
  const world = { facts, tiles, numbers, pictures, running };
  find("result").textContent = bound(result(facts, numbers));
  const threshold = new Threshold(facts, numbers), show = new Show(world, threshold);
  document.documentElement.dataset.plays = "yes";
  const missing = await sheet;
  if (missing) { // the story goes on
    pictures.facts = facts.pictures = undefined;
    facts.samples = [];
    facts.notes.push(`The pictures are not shown: ${missing.message}.`);
  }
  show.dress();

  tell({ ...world, threshold });
  const hint = facts.pictures?.exact ? " Click an image to run it below." : facts.pictures ? " Of these images, only the samples below can be run." : "";
  find("rule").textContent = facts.policy.rule + (facts.stages ? hint : "");
  find("notes").replaceChildren(...[...facts.facts, ...facts.notes, `Made by ${facts.made_by}.`].map((text) => element("li", {}, bound(text))));
  details(find("details"), facts);
  if (facts.stages) await yours(world, threshold, show).catch((error) => (find("total").textContent = `Pictures cannot be run here: ${error.message}`));
  document.documentElement.dataset.ready = "yes";
};

// What the page comes to, in a sentence; a model of one exit has nothing to save.
const result = ({ images, slider }, numbers) => {
  const now = numbers[slider.place], full = numbers.at(-1);
  if (numbers.length === 1) return "";
  return `Here, over ${whole(images)} images: ${percent(now.compute, 0)} of the compute, ${besides(now.accuracy, full.accuracy)} the whole network.`;
};

const yours = async (world, threshold, show) => {
  const { begin: beginYours } = await import("./yours.js"), takeTile = await beginYours(world, threshold);
  show.picked = (tile) => {
    if (!world.pictures.has(tile)) return;
    takeTile(tile);
    find("one").scrollIntoView({ behavior: calm.matches ? "auto" : "smooth" });
  };
};

begin().catch((error) => {
  find("served").textContent = `This page cannot be shown: ${error.message}`;
  find("served").style.animation = "none"; // at once
  find("served").hidden = false;
});
