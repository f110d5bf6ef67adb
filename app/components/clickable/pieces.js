// Images by exit as Python wrote them (every text escaped there), one below the other. An image with its words is a piece:
// it comes once and is kept by its name. A click sends its value as in clickable.js; `missed`: a piece is not here.

const MOST = 4000; // pieces; state/sent_images.py counts on half as many
const places = new WeakMap();
const store = (globalThis[Symbol.for("dmpo_explore.pieces")] ??= new Map()); // name → HTML

const made = (html) => {
  const template = document.createElement("template");
  template.innerHTML = html;
  return template.content.firstElementChild;
};

// A list's items by their names: those that stay are not touched.
const fill = (list, names) => {
  const wanted = new Set(names), own = new Map();
  for (const item of [...list.children]) {
    if (wanted.has(item.piece) && item.html === store.get(item.piece)) own.set(item.piece, item);
    else item.remove();
  }
  let at = list.firstElementChild;
  for (const name of wanted) {
    const html = store.get(name), item = own.get(name) ?? Object.assign(made(html), { piece: name, html });
    if (item === at) at = at.nextElementSibling;
    else list.insertBefore(item, at);
  }
};

// Parts: the HTML of an element, or the names of a list's pieces. Whether all pieces are there.
const show = (shown, { threshold, parts, pieces }) => {
  for (const [name, html] of Object.entries(pieces)) store.set(name, html);
  while (store.size > MOST) store.delete(store.keys().next().value);
  let whole = true;
  parts.forEach((part, i) => {
    const old = shown.children[i], put = (element) => (old ? old.replaceWith(element) : shown.append(element), element);
    if (typeof part === "string") {
      if (old?.part !== part) put(Object.assign(made(part), { part }));
      return;
    }
    const there = part.filter((name) => store.has(name));
    whole &&= there.length === part.length;
    fill(old?.tagName === "UL" ? old : put(made('<ul class="dx-gallery"></ul>')), there);
  });
  while (shown.children.length > parts.length) shown.lastElementChild.remove();
  if (whole) shown.dataset.threshold = threshold;
  return whole;
};

export default function ({ data, parentElement, setTriggerValue }) {
  let place = places.get(parentElement);
  if (!place) {
    place = parentElement.appendChild(made('<div class="dx-shown"></div>'));
    places.set(parentElement, place);
    place.addEventListener("click", (event) => {
      const what = event.target.closest("[data-pick]")?.dataset.pick;
      if (what) place.send("picked", { what, of: globalThis[Symbol.for("dmpo_explore.drawing")] });
    });
  }
  place.send = setTriggerValue;
  if (place.data === data) return;
  place.data = data;
  const focused = place.contains(document.activeElement) ? document.activeElement.dataset.pick : undefined;
  if (!show(place, data)) setTriggerValue("missed", true);
  if (focused === undefined || document.activeElement?.dataset.pick === focused) return;
  place.querySelector(`[data-pick="${CSS.escape(focused)}"]`)?.focus();
}
