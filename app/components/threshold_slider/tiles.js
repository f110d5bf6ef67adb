// Draws tiles into the pixels of a canvas: copies, no calls for each tile, so that thousands move at once without a GPU.

const rgb = (text) => (text.match(/[\d.]+/g) ?? [0, 0, 0]).slice(0, 3).map(Number);

const packedColour = ([r, g, b], alpha = 255) => ((alpha << 24) | (b << 16) | (g << 8) | r) >>> 0; // little-endian RGBA

const isDark = (root) => {
  const [r, g, b] = (getComputedStyle(root).backgroundColor.match(/[\d.]+/g) ?? [255, 255, 255]).map(Number);
  return 0.299 * r + 0.587 * g + 0.114 * b < 128;
};

const rgbOf = (packed) => [packed & 255, (packed >> 8) & 255, (packed >> 16) & 255];

const mixed = (a, b, share) => a.map((v, i) => Math.round(v + (b[i] - v) * share));

// A colour for a class, of this saturation and lightness.
const classColour = (label, s, l) => {
  const hue = (label * 137.508 + 210) % 360;
  const part = (n) => {
    const k = (n + hue / 30) % 12;
    return Math.round(255 * (l - s * Math.min(l, 1 - l) * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  };
  return [part(0), part(8), part(4)];
};

// Of a class, for tiles without images.
const tileColour = (dark) => (label) => classColour(label, ...(dark ? [0.32, 0.42] : [0.42, 0.72]));

// The pixels of every tile at `side`: incorrect, correct, and the same faded. `look`: colours and one device pixel's size.
class Atlas {
  constructor(tiles, side, look) {
    this.side = side;
    this.gap = side >= 6 * look.unit ? Math.round(look.unit) : side >= 4 ? 1 : 0;
    const most = Math.round(3 * look.unit);
    this.edge = side >= 8 * look.unit ? Math.min(most, Math.max(1, Math.round(side / 11))) : side - this.gap >= 4 ? 1 : 0;
    this.full = side - this.gap;
    this.inner = this.full - 2 * this.edge;
    this.looks = Array.from({ length: 4 }, () => new Uint32Array(tiles * side * side));
  }

  // Tiles from the pixels of a sheet that was scaled to `inner`, `columns` in a row; without one in their class's colour.
  fill(tiles, look, sheet, columns, labels) {
    const { side, edge, full, inner } = this, wide = columns * inner;
    const colourOf = tileColour(look.dark);
    const soft = mixed(look.states[1], look.ground, look.dark ? 0.2 : 0.5); // most are correct: their edges are calm
    const states = [packedColour(look.states[0]), packedColour(soft)]; // incorrect, correct
    for (let i = 0; i < tiles; i++) {
      const left = (i % columns) * inner, top = Math.floor(i / columns) * inner;
      const plain = sheet ? 0 : packedColour(colourOf(labels[i]));
      for (let y = 0; y < full; y++) {
        for (let x = 0; x < full; x++) {
          const at = i * side * side + y * side + x, u = x - edge, v = y - edge;
          const within = u >= 0 && v >= 0 && u < inner && v < inner;
          if (edge && (x === 0 || x === full - 1) && (y === 0 || y === full - 1)) continue; // round corners
          let image = plain;
          if (within && sheet) image = sheet[(top + v) * wide + left + u] | 0xff000000;
          for (let yes = 0; yes < 2; yes++) {
            let colour = within ? image : states[yes];
            if (!edge) colour = packedColour(mixed(rgbOf(image), look.states[yes], yes ? 0.35 : 0.75));
            this.looks[yes][at] = colour;
            this.looks[2 + yes][at] = (colour & 0xffffff) | (look.dark ? 0x28000000 : 0x24000000);
          }
        }
      }
    }
  }

  // Tile `i` at whole pixels (x, y) of an image `width` × `height`.
  draw(pixels, width, height, i, x, y, kind) {
    const { side, full } = this, from = this.looks[kind], start = i * side * side;
    if (x < 0 || y < 0 || x + full > width || y + full > height) return;
    for (let v = 0, a = start, b = y * width + x; v < full; v++, a += side, b += width) {
      for (let u = 0; u < full; u++) pixels[b + u] = from[a + u];
    }
  }
}

// The sheet's pixels with tiles of `inner` pixels: scaled once by the browser.
const scaledSheet = async (pictures, inner) => {
  const picture = new Image();
  picture.src = pictures.sheet;
  await picture.decode();
  pictures.picture = picture;
  const { side, columns } = pictures, lines = Math.round(picture.naturalHeight / side);
  const canvas = new OffscreenCanvas(columns * inner, lines * inner);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  return new Uint32Array(context.getImageData(0, 0, canvas.width, canvas.height).data.buffer);
};
