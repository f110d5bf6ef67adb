// Shows HTML that Python wrote (every text in it escaped there), one part below the other: the HTML of an element, or a
// list of images by their names. An image with its words comes once and is kept; `missed` names those that are not here.
// Clicking what carries data-pick sends its value.

const MOST = 4000; // images; state/sent.py counts on half as many
const places = new WeakMap();
const images = (globalThis[Symbol.for("dmpo_explore.images")] ??= new Map()); // name → HTML

// An event with its number, and that of the last one whose answer is drawn.
const numbered = (what) => {
  const events = (globalThis[Symbol.for("dmpo_explore.events")] ??= { sent: 0 });
  return { ...what, event: ++events.sent, answered: events.answered };
};

const made = (html) => {
  const template = document.createElement("template");
  template.innerHTML = html;
  const element = template.content.firstElementChild;
  for (const titled of element.querySelectorAll("[data-titled]")) titled.title = titled.getAttribute("aria-label");
  return element;
};

// Whether a table shows other rows at the same threshold, as its next page does: it is read from its top.
const turned = (before, now) => {
  const [first, next] = [before, now].map((box) => box.querySelector("tbody [data-pick]")?.dataset.pick);
  return before.dataset.threshold === now.dataset.threshold && first !== next;
};

// A list's items by their names: those that stay are not touched.
const fill = (list, names) => {
  const wanted = new Set(names), own = new Map();
  for (const item of [...list.children]) {
    if (wanted.has(item.name) && item.html === images.get(item.name)) own.set(item.name, item);
    else item.remove();
  }
  let at = list.firstElementChild;
  for (const name of wanted) {
    const html = images.get(name), item = own.get(name) ?? Object.assign(made(html), { name, html });
    if (item === at) at = at.nextElementSibling;
    else list.insertBefore(item, at);
  }
};

// The names of the images that are not here.
const draw = (place, { parts, images: sent = {}, threshold }) => {
  for (const [name, html] of Object.entries(sent)) images.set(name, html);
  while (images.size > MOST) images.delete(images.keys().next().value);
  const missed = [];
  parts.forEach((part, i) => {
    const old = place.children[i], list = typeof part !== "string";
    if (list ? old?.tagName !== "UL" : old?.part !== part) {
      const now = Object.assign(made(list ? '<ul class="dx-gallery"></ul>' : part), { part });
      const { scrollTop: top = 0, scrollLeft: left = 0 } = old ?? {};
      if (old) old.replaceWith(now);
      else place.append(now);
      if (top || left) now.scrollTo(left, turned(old, now) ? 0 : top);
    }
    if (!list) return;
    fill(place.children[i], part.filter((name) => images.has(name)));
    missed.push(...part.filter((name) => !images.has(name)));
  });
  while (place.children.length > parts.length) place.lastElementChild.remove();
  place.classList.toggle("dx-shown", threshold !== undefined);
  if (threshold !== undefined && !missed.length) place.dataset.threshold = threshold;
  return missed;
};

export default function ({ data, parentElement, setTriggerValue }) {
  let place = places.get(parentElement);
  if (!place) {
    place = parentElement.appendChild(document.createElement("div"));
    places.set(parentElement, place);
    place.addEventListener("click", (event) => {
      const what = event.target.closest("[data-pick]")?.dataset.pick;
      if (what) place.send("picked", numbered({ what }));
    });
  }
  place.send = setTriggerValue;
  if (place.data === data) return;
  place.data = data;
  const focused = place.contains(document.activeElement) ? document.activeElement.dataset.pick : undefined;
  const missed = draw(place, data);
  if (missed.length) setTriggerValue("missed", missed);
  if (focused === undefined || document.activeElement?.dataset.pick === focused) return;
  place.querySelector(`[data-pick="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}
