// The page: it plays from the record alone, at once; with the model in its folder it also classifies pictures.

import { details } from "./details.js";
import { filesOf } from "./fetching.js";
import { calm, element, find } from "./parts.js";
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
  const [tiles] = await Promise.all([readTiles(facts), pictures.open(facts)]);
  const world = { facts, tiles, numbers, pictures, sheet: pictures.bitmap, running: await pictures.running(facts) };
  const threshold = new Threshold(facts, numbers), show = new Show(world, threshold);
  document.documentElement.dataset.plays = "yes";

  tell({ ...world, threshold });
  const hint = facts.pictures?.exact ? " Click an image to run it below." : facts.pictures ? " Of these images, only the samples below can be run." : "";
  find("rule").textContent = facts.policy.rule + (facts.stages ? hint : "");
  find("notes").replaceChildren(...[...facts.facts, ...facts.notes, `Made by ${facts.made_by}.`].map((text) => element("li", {}, text)));
  details(find("details"), facts);
  if (facts.stages) await yours(world, threshold, show).catch((error) => (find("total").textContent = `Pictures cannot be run here: ${error.message}`));
  document.documentElement.dataset.ready = "yes";
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
