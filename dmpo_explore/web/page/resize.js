// Pillow's antialiased resizing of 8-bit images, to the bit, and the model's preprocessing.
//
// The arithmetic is that of Pillow: two passes, horizontal first as `OnnxEngine.prepare` has them, with weights of 22 bits,
// each pass rounded to whole grey levels. A browser's own resizing differs from it by several grey levels.

const BITS = 22;
const sinc = (x) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));
const cubic = (x) => {
  const a = -0.5, d = Math.abs(x);
  if (d < 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
  return d < 2 ? (((d - 5) * d + 8) * d - 4) * a : 0;
};
const FILTERS = {
  // name: [support, weight]
  box: [0.5, (x) => (x > -0.5 && x <= 0.5 ? 1 : 0)],
  bilinear: [1, (x) => Math.max(0, 1 - Math.abs(x))],
  hamming: [1, (x) => (Math.abs(x) >= 1 ? 0 : sinc(x) * (0.54 + 0.46 * Math.cos(Math.PI * x)))],
  bicubic: [2, cubic],
  lanczos: [3, (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0)],
};

// For each of `after` pixels, the first pixel that it reads and its whole-number weights.
const weightsOf = (before, after, name) => {
  const [reach, weight] = FILTERS[name], scale = before / after, wide = Math.max(scale, 1), support = reach * wide;
  return Array.from({ length: after }, (_, place) => {
    const centre = (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5)), end = Math.min(before, Math.trunc(centre + support + 0.5));
    const found = Array.from({ length: end - first }, (_, i) => weight((i + first - centre + 0.5) * (1 / wide)));
    const total = found.reduce((sum, w) => sum + w, 0);
    return [first, found.map((w) => {
      const part = (total === 0 ? w : w / total) * 2 ** BITS;
      return Math.trunc(part < 0 ? part - 0.5 : part + 0.5);
    })];
  });
};

const clip = (sum) => Math.min(255, Math.max(0, Math.floor(sum / 2 ** BITS)));

// One pass along rows: (height, width, 3) → (width after, height, 3), so that a second call resizes the other side.
const pass = (pixels, width, height, after, name) => {
  const found = new Uint8Array(after * height * 3);
  weightsOf(width, after, name).forEach(([first, weights], place) => {
    for (let y = 0; y < height; y++) {
      const from = (y * width + first) * 3, to = (place * height + y) * 3;
      let [r, g, b] = [2 ** (BITS - 1), 2 ** (BITS - 1), 2 ** (BITS - 1)];
      for (let i = 0; i < weights.length; i++) {
        r += pixels[from + 3 * i] * weights[i];
        g += pixels[from + 3 * i + 1] * weights[i];
        b += pixels[from + 3 * i + 2] * weights[i];
      }
      found[to] = clip(r);
      found[to + 1] = clip(g);
      found[to + 2] = clip(b);
    }
  });
  return found;
};

const turned = (pixels, width, height) => {
  const found = new Uint8Array(pixels.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) found.set(pixels.subarray((y * width + x) * 3, (y * width + x) * 3 + 3), (x * height + y) * 3);
  }
  return found;
};

/** RGB pixels (height, width, 3) of another size; a side that stays is not touched. */
export const resized = (pixels, width, height, toWidth, toHeight, name) => {
  const across = width === toWidth ? turned(pixels, width, height) : pass(pixels, width, height, toWidth, name);
  return height === toHeight ? turned(across, height, toWidth) : pass(across, height, toWidth, toHeight, name);
};

// Size before the crop: Preprocess.scaled of the library.
const scaled = (width, height, facts) => {
  const size = facts.image_size;
  if (facts.resize !== "crop") return [size, size];
  const side = Math.floor(size / facts.crop_pct), short = Math.min(width, height);
  return height === short ? [Math.trunc((side * width) / short), side] : [side, Math.trunc((side * height) / short)];
};

// Python's round(): halves to the even number.
const halfEven = (x) => (Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));

/** An image { pixels: RGBA, width, height } → Float32Array (3, S, S), as `OnnxEngine.prepare` makes it. */
export const prepared = (image, facts) => {
  const { width, height } = image, size = facts.image_size, rgb = new Uint8Array(width * height * 3);
  for (let i = 0; i < width * height; i++) for (let c = 0; c < 3; c++) rgb[3 * i + c] = image.pixels[4 * i + c];
  const [toWidth, toHeight] = scaled(width, height, facts);
  const small = resized(rgb, width, height, toWidth, toHeight, facts.interpolation);
  const top = halfEven((toHeight - size) / 2), left = halfEven((toWidth - size) / 2);
  const found = new Float32Array(3 * size * size), { fround } = Math;
  for (let c = 0; c < 3; c++) {
    const mean = fround(facts.mean[c]), std = fround(facts.std[c]);
    for (let y = 0; y < size; y++) {
      for (let x = 0; x < size; x++) {
        const value = small[((y + top) * toWidth + x + left) * 3 + c];
        found[(c * size + y) * size + x] = fround(fround(fround(value / 255) - mean) / std);
      }
    }
  }
  return found;
};
