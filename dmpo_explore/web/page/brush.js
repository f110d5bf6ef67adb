// A brush that covers parts of the picture with grey, so that a visitor sees which parts an answer needs.

import { modified } from "./parts.js";

const GREY = 128, WIDE = 0.07; // radius, as a share of the picture's longer side

/** A picture with grey discs around points, in pixels. */
export const covered = ({ pixels, width, height }, points) => {
  const found = new Uint8ClampedArray(pixels), radius = Math.max(1.5, WIDE * Math.max(width, height));
  for (const [x, y] of points) {
    for (let row = Math.max(0, Math.floor(y - radius)); row < Math.min(height, y + radius); row++) {
      for (let column = Math.max(0, Math.floor(x - radius)); column < Math.min(width, x + radius); column++) {
        if ((column + 0.5 - x) ** 2 + (row + 0.5 - y) ** 2 <= radius ** 2) found.set([GREY, GREY, GREY, 255], 4 * (row * width + column));
      }
    }
  }
  return { pixels: found, width, height };
};

/** Let a pointer, or the arrow keys and the space bar, cover the picture in a square canvas while the brush is on.
 *
 * `spot`: the element that shows where keys paint; `take(picture)` gets each new picture, one in a frame.
 */
export const brush = (canvas, spot, isOn, pictureOf, take) => {
  let at = [0.5, 0.5]; // of the square, for keys
  const show = () => Object.assign(spot.style, { left: `${100 * at[0]}%`, top: `${100 * at[1]}%` });
  spot.style.width = spot.style.height = `${200 * WIDE}%`;
  show();
  let painted = [];
  const paint = (...place) => painted.push(place) === 1 && requestAnimationFrame(() => {
    const picture = pictureOf(), places = painted;
    painted = [];
    if (!picture || !isOn()) return;
    const { width, height } = picture, side = Math.max(width, height);
    take(covered(picture, places.map(([across, down]) => [across * side - (side - width) / 2, down * side - (side - height) / 2])));
  });
  const point = (event) => {
    const { left, top, width } = canvas.getBoundingClientRect();
    paint((event.clientX - left) / width, (event.clientY - top) / width);
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (isOn()) canvas.setPointerCapture(event.pointerId);
    point(event);
  });
  canvas.addEventListener("pointermove", (event) => canvas.hasPointerCapture(event.pointerId) && point(event));
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1], " ": [0, 0], Enter: [0, 0] }[event.key];
    if (!step || !isOn() || modified(event)) return;
    event.preventDefault();
    at = at.map((place, i) => Math.min(1, Math.max(0, place + WIDE * step[i])));
    show();
    if (!step[0] && !step[1]) paint(...at);
  });
};
