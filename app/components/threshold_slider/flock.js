// Tiles or points on a canvas that go to where they are to stand, a part of their way in every frame. What they look like
// is the mosaic's or the map's.

const STEP = 95; // ms in which a tile covers about two thirds of its way
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const partIn = (passed) => 1 - Math.exp(-passed / STEP);

class Flock {
  constructor(figure, pick, preview) {
    this.figure = figure;
    this.pick = pick;
    this.canvas = figure.querySelector("canvas");
    this.preview = new Preview(figure, preview);
    this.frames = 0;
    listenToTiles(this);
  }

  close() {
    cancelAnimationFrame(this.waiting);
  }

  // Take over the canvas's size, in css pixels; whether it is another one.
  resized(width, height) {
    const unit = devicePixelRatio || 1, size = [Math.round(width * unit), Math.round(height * unit)];
    if (this.size?.join() === size.join()) return false;
    Object.assign(this, { size, unit });
    [this.canvas.width, this.canvas.height] = size;
    this.image = new ImageData(...size);
    this.pixels = new Uint32Array(this.image.data.buffer);
    return true;
  }

  // Places of `n` tiles in device pixels: where they are, and where they are to stand.
  allot(n) {
    for (const name of ["x", "y", "toX", "toY"]) this[name] = new Float32Array(n);
  }

  jump() {
    this.x.set(this.toX);
    this.y.set(this.toY);
  }

  start(paint = false) {
    this.dirty ||= paint;
    if (this.waiting) return;
    this.before = performance.now();
    this.waiting = requestAnimationFrame((now) => this.frame(now));
  }

  frame(now) {
    this.waiting = 0;
    if (!this.made || !this.size) return;
    const moving = this.step(Math.min(50, Math.max(4, now - this.before)));
    this.before = now;
    if (moving || this.moved || this.dirty || this.changed()) this.paint(moving); // once more at rest
    this.moved = moving;
    this.dirty = false;
    this.frames += 1;
    if (moving) this.waiting = requestAnimationFrame((later) => this.frame(later));
  }

  // Everything goes a part of its way, in flight each at its own rate; whether something still moves.
  step(passed) {
    const { x, y, toX, toY, rate, flies } = this, calmly = partIn(passed);
    let moving = false;
    for (let i = 0; i < x.length; i++) {
      const dx = toX[i] - x[i], dy = toY[i] - y[i];
      if (dx === 0 && dy === 0) continue;
      moving = true;
      if (Math.abs(dx) < 0.6 && Math.abs(dy) < 0.6) {
        x[i] = toX[i];
        y[i] = toY[i];
        if (flies) flies[i] = 0;
        continue;
      }
      const part = flies?.[i] ? partIn(passed * rate[i]) : calmly;
      x[i] += dx * part;
      y[i] += dy * part;
    }
    return moving;
  }

  changed() {
    return false;
  }
}
