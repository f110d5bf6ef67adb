// Pictures: from files, from the page's sheet, from the webcam, as { pixels: RGBA, width, height }.

import { bytesOf } from "./fetching.js";

const MOST_PIXELS = 25e6, BAND = 2 ** 20; // pixels of a canvas: on iOS those above 2 ** 24 stay empty

const pixelsOf = (source, left, top, width, height) => {
  const rows = Math.min(height, Math.ceil(BAND / width)), pixels = new Uint8ClampedArray(4 * width * height);
  const canvas = Object.assign(document.createElement("canvas"), { width, height: rows });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff"; // transparent areas are white, as in the library
  for (let row = 0; row < height; row += rows) {
    const high = Math.min(rows, height - row);
    context.fillRect(0, 0, width, high);
    context.drawImage(source, left, top + row, width, high, 0, 0, width, high);
    pixels.set(context.getImageData(0, 0, width, high).data, 4 * width * row);
  }
  return { pixels, width, height };
};

/** A file of the visitor, upright, its colours as they are stored. */
export const opened = async (file) => {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none", imageOrientation: "from-image" });
  } catch {
    throw new Error(`${file.name || "This file"} is no picture that the browser can open.`);
  }
  const { width, height } = bitmap, picture = width * height > MOST_PIXELS ? null : pixelsOf(bitmap, 0, 0, width, height);
  bitmap.close(); // its memory
  if (!picture) throw new Error(`${file.name || "This picture"} has more than 25 megapixels.`);
  return picture;
};

const bitmapOf = async (file) => createImageBitmap(new Blob([await bytesOf(file)]));

/** The pictures that came with the page: `address` of the sheet, and `at(tile)`, a picture or null. */
export class Pictures {
  async open({ pictures }) {
    this.facts = pictures;
    if (!pictures) return;
    const blob = new Blob([await bytesOf(pictures.sheet)]);
    this.address = URL.createObjectURL(blob);
    this.bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  }

  /** The images that run through the network, with their bitmaps. */
  running({ running }) {
    return Promise.all(running.map(async (one) => ({ ...one, bitmap: one.picture && (await bitmapOf(one.picture).catch(() => null)) }))); // a colour stands for one that is missing
  }

  has(tile) {
    return Boolean(this.facts) && (this.facts.exact || String(tile) in this.facts.samples);
  }

  async at(tile) {
    const { columns, width, height, exact, samples } = this.facts;
    if (!exact) return opened(new Blob([await bytesOf(samples[tile])]));
    return pixelsOf(this.bitmap, (tile % columns) * width, Math.floor(tile / columns) * height, width, height);
  }

  /** Show a tile's small picture as the background of an element. */
  dress(node, tile) {
    const { columns } = this.facts, rows = this.bitmap.height / this.facts.height;
    node.style.backgroundImage = `url("${this.address}")`;
    node.style.backgroundSize = `${100 * columns}% ${100 * rows}%`;
    const place = (i, n) => `${n > 1 ? (100 * i) / (n - 1) : 0}%`;
    node.style.backgroundPosition = `${place(tile % columns, columns)} ${place(Math.floor(tile / columns), rows)}`;
  }
}

/** Draw a picture into a square canvas, whole, small ones without smoothing. */
export const draw = (canvas, { pixels, width, height }) => {
  const context = canvas.getContext("2d"), side = canvas.width, scale = Math.min(side / width, side / height);
  const step = Math.max(1, Math.floor(0.25 / scale)), [wide, high] = [width, height].map((n) => Math.ceil(n / step));
  const all = new Uint32Array(pixels.buffer), some = new Uint32Array(wide * high); // of a large picture every step-th pixel
  for (let i = 0; i < some.length; i++) some[i] = all[step * (Math.floor(i / wide) * width + (i % wide))];
  const small = Object.assign(document.createElement("canvas"), { width: wide, height: high });
  small.getContext("2d").putImageData(new ImageData(new Uint8ClampedArray(some.buffer), wide, high), 0, 0);
  context.imageSmoothingEnabled = scale < 3;
  context.imageSmoothingQuality = "high";
  context.clearRect(0, 0, side, side);
  context.drawImage(small, (side - width * scale) / 2, (side - height * scale) / 2, width * scale, height * scale);
};

/** The webcam: frames, cut to the square at their middle. */
export class Camera {
  constructor(video) {
    this.video = video;
  }

  async start() {
    if (!navigator.mediaDevices) throw new Error("A browser gives the webcam only to pages with https.");
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", width: 640, height: 480 } });
    } catch (error) {
      throw new Error(`The webcam cannot be used: ${error.message}`);
    }
    this.video.srcObject = this.stream;
    await this.video.play();
  }

  stop() {
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.video.srcObject = this.stream = null;
  }

  frame() {
    const { videoWidth: width, videoHeight: height } = this.video, side = Math.min(width, height);
    return side ? pixelsOf(this.video, (width - side) / 2, (height - side) / 2, side, side) : null;
  }
}
