// Shows HTML that Python wrote (every text in it escaped there). Clicking what carries data-pick sends its value, and
// which drawing of the page it was clicked on, where the page counts them (threshold_slider/drawing.js).

const places = new WeakMap();
const drawing = () => globalThis[Symbol.for("dmpo_explore.drawing")];

// Whether a table shows other rows at the same threshold, as its next page does: it is read from its top.
const turned = (before, now) => {
  const [first, next] = [before, now].map((box) => box.querySelector("tbody [data-pick]")?.dataset.pick);
  return before.dataset.threshold === now.dataset.threshold && first !== next;
};

export default function ({ data, parentElement, setTriggerValue }) {
  let place = places.get(parentElement);
  if (!place) {
    place = parentElement.appendChild(document.createElement("div"));
    places.set(parentElement, place);
    place.addEventListener("click", (event) => {
      const target = event.target.closest("[data-pick]");
      if (target) place.send("picked", { what: target.dataset.pick, of: drawing() });
    });
  }
  place.send = setTriggerValue;
  if (place.shown === data) return;
  place.shown = data;
  const focused = place.contains(document.activeElement) ? document.activeElement.dataset.pick : undefined;
  const before = place.firstElementChild, { scrollTop: top = 0, scrollLeft: left = 0 } = before ?? {};
  place.innerHTML = data;
  for (const titled of place.querySelectorAll("[data-titled]")) titled.title = titled.getAttribute("aria-label");
  if (focused !== undefined) place.querySelector(`[data-pick="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  if (top || left) place.firstElementChild?.scrollTo(left, turned(before, place.firstElementChild) ? 0 : top);
}
