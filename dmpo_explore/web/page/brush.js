// A brush that covers parts of the picture with grey, so that a visitor sees which parts an answer needs.

const GREY = 128, WIDE = 0.07; // radius, as a share of the picture's longer side

/** A picture with a grey disc around a point, in pixels. */
export const covered = ({ pixels, width, height }, x, y) => {
  const found = new Uint8ClampedArray(pixels), radius = Math.max(1.5, WIDE * Math.max(width, height));
  for (let row = Math.max(0, Math.floor(y - radius)); row < Math.min(height, y + radius); row++) {
    for (let column = Math.max(0, Math.floor(x - radius)); column < Math.min(width, x + radius); column++) {
      if ((column + 0.5 - x) ** 2 + (row + 0.5 - y) ** 2 <= radius ** 2) found.set([GREY, GREY, GREY, 255], 4 * (row * width + column));
    }
  }
  return { pixels: found, width, height };
};

/** Let a pointer cover the picture in a square canvas while the brush is on; `take(picture)` gets each new picture. */
export const brush = (canvas, isOn, pictureOf, take) => {
  const paint = (event) => {
    const picture = pictureOf();
    if (!picture || !isOn()) return;
    const { left, top, width: side } = canvas.getBoundingClientRect(), { width, height } = picture, scale = Math.min(side / width, side / height);
    const x = (event.clientX - left - (side - width * scale) / 2) / scale, y = (event.clientY - top - (side - height * scale) / 2) / scale;
    take(covered(picture, x, y));
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (isOn()) canvas.setPointerCapture(event.pointerId);
    paint(event);
  });
  canvas.addEventListener("pointermove", (event) => canvas.hasPointerCapture(event.pointerId) && paint(event));
};
