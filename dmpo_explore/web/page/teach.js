// Two classes of a visitor's own: at which exit do their pictures separate? By the means of each class, of every exit's logits.

import { bar, element, find, megabytes, percent, whole } from "./parts.js";

const meanOf = (rows) => rows[0].map((_, c) => rows.reduce((sum, row) => sum + row[c], 0) / rows.length);
const distance = (a, b) => Math.hypot(...a.map((value, c) => value - b[c]));

/** For each exit the share of pictures that lie nearer to the mean of their own class than to the other's, itself left out.
 *
 * `taught`: { own: 0 or 1, logits: one row of numbers for each exit }, at least two of each class.
 */
export const separated = (taught) => taught[0].logits.map((_, k) => {
  const near = taught.filter((one) => {
    const away = [0, 1].map((own) => distance(one.logits[k], meanOf(taught.filter((other) => other.own === own && other !== one).map(({ logits }) => logits[k]))));
    return away[one.own] < away[1 - one.own];
  });
  return near.length / taught.length;
});

/** Fill the part of the page; `run()` takes the picture through all stages: { picture, logits }, or null. */
export const teach = (facts, run) => {
  const names = ["A", "B"].map((name, own) => element("input", { value: name, maxlength: 30, "aria-label": `Name of the ${own ? "second" : "first"} class` }));
  const buttons = names.map(() => element("button", { type: "button" })), again = element("button", { type: "button" }, "Start again"), said = element("p", { role: "status" }), bars = element("div");
  let taught = [];
  const show = (note = "") => {
    const amounts = [0, 1].map((own) => taught.filter((one) => one.own === own).length), enough = Math.min(...amounts) > 1;
    buttons.forEach((button, own) => (button.textContent = `This picture is ${names[own].value || "?"}`));
    const shares = enough ? separated(taught) : [], best = shares.indexOf(Math.max(...shares));
    said.textContent = note || (enough ? `Best at exit ${best + 1}: there ${percent(shares[best], 0)} of ${whole(taught.length)} pictures are nearer to their own class.` : `${amounts.map((n, own) => `${names[own].value}: ${n}`).join(", ")}. Two of each are needed.`);
    bars.replaceChildren(...shares.map((share, k) => bar(share, facts.colours[k], `exit ${k + 1}`, percent(share, 0))));
  };
  buttons.forEach((button, own) => button.addEventListener("click", async () => {
    for (const one of buttons) one.disabled = true;
    show("The picture runs to the last exit …");
    const found = await run();
    for (const one of buttons) one.disabled = false;
    if (!found) return show("There is no picture, or a stage is missing.");
    if (taught.some(({ picture }) => picture === found.picture)) return show("This picture was shown already. Choose another one.");
    taught.push({ own, ...found });
    show();
  }));
  names.forEach((name) => name.addEventListener("input", () => show()));
  again.addEventListener("click", () => ((taught = []), show()));
  const sum = facts.stages.reduce((all, { bytes }) => all + bytes, 0);
  find("teach").append(
    element("p", { class: "quiet" }, `Choose a few pictures of two kinds, one after the other, and name the kind of each. They run to the last exit, for which all stages are loaded (${megabytes(sum)}). At every exit a picture is compared with the mean answers of both kinds, itself left out.`),
    element("div", { class: "buttons" }, ...names.flatMap((name, own) => [name, buttons[own]]), again), said, bars,
  );
  show();
};
