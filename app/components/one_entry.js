// One entry in the browser's history for a page: what a page writes into its address by itself, before anything on it was
// pressed, replaces the entry that it was opened with. Streamlit adds another, so that Back would seem to do nothing.

const KEY = Symbol.for("dmpo_explore.one_entry");

export default function () {
  if (globalThis[KEY]) return;
  globalThis[KEY] = true;
  let pressed = false;
  for (const kind of ["pointerdown", "keydown"]) addEventListener(kind, () => (pressed = true), true);
  const push = history.pushState.bind(history);
  history.pushState = (state, unused, address) => {
    const same = new URL(address, location.href).pathname === location.pathname;
    if (same && !pressed) return history.replaceState(state, unused, address);
    pressed &&= same;
    return push(state, unused, address);
  };
}
