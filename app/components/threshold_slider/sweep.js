// On the first visit the threshold is swept once, slowly, from where it stands to both ends and back; any key, any press
// and a preference for reduced motion leave it out.

const SWEEP = 7000; // ms
const SWEPT = "dmpo-explore-hint"; // as earlier versions called their hint
const HINT = "A demonstration; a click or a key stops it. Every point of the curve is the same model: the threshold decides which images exit early.";

const isNew = () => {
  try {
    if (localStorage.getItem(SWEPT) === "seen") return false;
    localStorage.setItem(SWEPT, "seen");
    return true;
  } catch {
    return false; // private windows: it would come back every time
  }
};

// `move(share)` sets the slider, `end()` puts it back.
const sweep = (from, move, end) => {
  const began = performance.now();
  let over = false;
  const stop = () => {
    if (over) return;
    over = true;
    for (const kind of ["keydown", "pointerdown"]) removeEventListener(kind, stop, true);
    end();
  };
  for (const kind of ["keydown", "pointerdown"]) addEventListener(kind, stop, true);
  const way = [from, 0, 1, from], lengths = way.slice(1).map((to, i) => Math.abs(to - way[i])), total = lengths.reduce((a, b) => a + b);
  const frame = (now) => {
    if (over) return;
    let gone = (total * (now - began)) / SWEEP;
    if (gone >= total) return void stop();
    let part = 0;
    while (gone > lengths[part]) gone -= lengths[part++];
    move(way[part] + Math.sign(way[part + 1] - way[part]) * gone);
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
};
