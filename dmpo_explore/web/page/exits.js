// The ladder of exits for one picture: score and threshold at every exit, where it stops, what was not computed or fetched.

import { bound, element, find, gigaflops, length, megabytes, percent, scoreText, thresholdText } from "./parts.js";

export class Exits {
  constructor(facts, aim) {
    this.facts = facts;
    this.rows = facts.stages.map((stage, k) => {
      const parts = {
        bar: element("div", { class: "bar" }),
        words: element("span", { class: "words" }),
        amount: element("span", { class: "amount" }),
        state: element("span", { class: "state" }),
        five: element("p", { class: "five" }),
      };
      const own = facts.flops[k] - (facts.flops[k - 1] ?? 0);
      const name = element("div", { class: "name" }, element("b", {}, `Exit ${k + 1}`), element("span", {}, `block ${facts.blocks[k]}`));
      const track = element("div", { class: "track" }, parts.bar, element("div", { class: "line" }), parts.words, parts.amount);
      const cost = element("div", { class: "cost" }, element("span", {}, gigaflops(own)), element("span", {}, megabytes(stage.bytes)));
      const row = element("li", {}, name, track, cost, parts.state, parts.five);
      row.style.setProperty("--exit", facts.colours[k]);
      listen(track, (share) => aim(share * facts.policy.highest));
      return { row, ...parts };
    });
    find("exits").replaceChildren(...this.rows.map(({ row }) => row));
  }

  /** Everything about one picture.
   *
   * `answers`: of the exits computed so far; `stop`: the exit where it stops, or null; `busy`: { stage, done } while a stage
   * is fetched; `failed`: { stage, text }, without a stage where
   * something else went wrong; `here`: the graphs that need no download; `threshold`; `where` it computes, in words; `truth`: a sample's class.
   */
  show({ answers, stop, busy, failed, here, threshold, where, truth }) {
    const { policy, class_names: names, stages, flops } = this.facts;
    find("exits").style.setProperty("--threshold", length(threshold / policy.highest));
    this.rows.forEach(({ row, bar, words, amount, state, five }, k) => {
      const answer = answers[k], past = stop !== null && k > stop, loading = busy?.stage === k && !failed;
      row.className = ["row", answer && "computed", stop === k && "stops", past && "past", loading && "loading"].filter(Boolean).join(" ");
      bar.style.width = length(answer ? answer.score / policy.highest : loading ? busy.done / stages[k].bytes : 0);
      five.textContent = answer ? mostLikely(answer.ranked).map(([c, p]) => `${names[c]} ${percent(p, p < 0.01 ? 1 : 0)}`).join(" · ") : "";
      words.textContent = answer ? names[answer.label] : "";
      amount.textContent = answer ? scoreText(answer.score, policy) : "";
      state.textContent = stateOf({ answer, stop, past, k, here: here[k], last: stages.length - 1, loading, busy, stage: stages[k], failed, policy });
    });
    this.#headline({ answers, stop, busy, failed, truth });
    this.used.textContent = stop === null ? "" : bound(`, threshold ${thresholdText(threshold, policy)}`);
    const computed = answers.length ? flops[answers.length - 1] : 0, model = flops.at(-1);
    const bytes = stages.reduce((sum, { bytes: n }) => sum + n, 0), fetched = stages.reduce((sum, { bytes: n }, k) => sum + (here[k] ? n : 0), 0);
    const time = answers.reduce((sum, { milliseconds }) => sum + milliseconds, 0);
    find("spent").replaceChildren(
      card("Computed", percent(computed / model, 0), `${gigaflops(computed).split(" ")[0]} of ${gigaflops(model)}`, computed / model),
      card("Downloaded", percent(fetched / bytes, 0), `${megabytes(fetched).split(" ")[0]} of ${megabytes(bytes)}`, fetched / bytes),
      card("Time", answers.length ? `${time.toFixed(0)} ms` : "–", `on this device, ${where}`),
    );
  }

  // Screen readers read it out when it changes, so it is left alone while it does not.
  #headline({ answers, stop, busy, failed, truth }) {
    const now = JSON.stringify([answers.length, stop, busy?.stage, failed?.text, answers.at(-1)]);
    if (this.said === now) return;
    this.said = now;
    this.used = element("span", { "aria-live": "off" }); // the slider's own words tell it
    const { class_names: names, policy, stages } = this.facts, answer = answers[stop ?? answers.length - 1];
    const label = element("p", { class: "label" }, answer ? names[answer.label] : "…");
    if (failed) {
      const text = answer && failed.stage !== undefined ? `Exit ${answers.length}'s answer. ${failed.text}` : failed.text;
      return void find("answer").replaceChildren(label, element("p", { class: "bad" }, text));
    }
    let text = "Loading", verdict = "";
    if (stop !== null) {
      const score = `${policy.score} ${scoreText(answer.score, policy)}`;
      text = stop === stages.length - 1 ? `Only the last exit answers: ${score}` : `Stops at exit ${stop + 1} of ${stages.length}: ${score}`;
    } else if (busy) text = `Stage ${busy.stage + 1} is needed`;
    if (stop !== null && truth !== undefined) verdict = answer.label === truth ? ". Correct ✓" : `. It is: ${names[truth]} ✗`;
    find("answer").replaceChildren(label, element("p", { class: "quiet" }, bound(text), this.used, verdict));
  }
}

/** The five most likely classes: [class, probability], … */
const mostLikely = (ranked) => [...ranked.entries()].sort((a, b) => b[1] - a[1]).slice(0, 5);

const stateOf = ({ answer, stop, past, k, here, last, loading, busy, stage, failed, policy }) => {
  if (failed?.stage === k) return "could not be loaded";
  if (loading) return busy.done < stage.bytes ? `downloading, ${megabytes(busy.done)} of ${megabytes(stage.bytes)}` : "loading";
  if (stop === k) return k === last ? "the last exit" : "stops here";
  if (answer && past) return "computed before, at another threshold";
  if (answer) return `${policy.falling ? "above" : "below"}: the next stage is needed`;
  return past ? `not computed${here ? "" : ", not downloaded"}` : "";
};

const card = (title, value, note, share) =>
  element("div", {}, element("dt", {}, title), element("dd", {}, value), element("dd", { class: "note" }, note),
    ...(share === undefined ? [] : [meter(share)]));

const meter = (share) => {
  const filled = element("i");
  filled.style.width = length(share);
  return element("dd", { class: "meter", "aria-hidden": "true" }, filled);
};

// A pointer on a track aims at a threshold; keys have the slider.
const listen = (track, aim) => {
  const at = (event) => {
    const { left, width } = track.getBoundingClientRect();
    aim(Math.min(1, Math.max(0, (event.clientX - left) / width)));
  };
  track.addEventListener("pointerdown", (event) => {
    track.setPointerCapture(event.pointerId);
    at(event);
  });
  track.addEventListener("pointermove", (event) => track.hasPointerCapture(event.pointerId) && at(event));
};
