// Shows HTML that Python wrote (every text in it escaped there). Clicking what carries data-pick sends its value.

const places = new WeakMap();

export default function ({ data, parentElement, setTriggerValue }) {
  let place = places.get(parentElement);
  if (!place) {
    place = parentElement.appendChild(document.createElement("div"));
    places.set(parentElement, place);
    place.addEventListener("click", (event) => {
      const target = event.target.closest("[data-pick]");
      if (target) place.send("picked", target.dataset.pick);
    });
  }
  place.send = setTriggerValue;
  if (place.shown === data) return;
  place.shown = data;
  const focused = place.contains(document.activeElement) ? document.activeElement.dataset.pick : undefined;
  place.innerHTML = data;
  if (focused !== undefined) place.querySelector(`[data-pick="${CSS.escape(focused)}"]`)?.focus();
}
