// A place to draw with the mouse, a finger or a pen, and to drop a picture on.

/** Pixels of a side of the drawing, and how wide the pen is. */
export const SIDE = 280;
const WIDTH = 22;

export class Pen {
  /** `onChange` is called after each stroke, `onPicture` with a file that was dropped. */
  constructor(canvas, { onChange, onPicture }) {
    Object.assign(this, { canvas, onChange });
    canvas.width = canvas.height = SIDE;
    this.context = canvas.getContext("2d", { willReadFrequently: true });
    this.context.lineCap = this.context.lineJoin = "round";
    this.context.lineWidth = WIDTH;
    canvas.addEventListener("pointerdown", (event) => this.onDown(event));
    canvas.addEventListener("pointermove", (event) => this.onMove(event));
    for (const end of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(end, () => {
        this.last = null;
      });
    }
    canvas.addEventListener("dragover", (event) => event.preventDefault());
    canvas.addEventListener("drop", (event) => {
      event.preventDefault();
      const [file] = event.dataTransfer.files;
      if (file) onPicture(file);
    });
    this.clear();
  }

  clear() {
    this.context.fillStyle = "black";
    this.context.fillRect(0, 0, SIDE, SIDE);
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    const scale = SIDE / box.width;
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  }

  onDown(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.onStart?.();
    this.last = this.at(event);
    this.lineTo(this.last);
  }

  onMove(event) {
    if (this.last) this.lineTo(this.at(event));
  }

  lineTo(place) {
    const { context } = this;
    context.strokeStyle = "white";
    context.beginPath();
    context.moveTo(...this.last);
    context.lineTo(...place);
    context.stroke();
    this.last = place;
    this.onChange();
  }

  /** Draw strokes, each a list of [x, y]: for whoever has no pointer. */
  draw(strokes) {
    for (const [first, ...rest] of strokes) {
      this.last = first;
      for (const place of [first, ...rest]) this.lineTo(place);
    }
    this.last = null;
  }

  /** Show a picture, cut to a square as the data's are cut to their shape. */
  async show(file) {
    const picture = await createImageBitmap(file);
    const scale = SIDE / Math.min(picture.width, picture.height);
    const [width, height] = [picture.width * scale, picture.height * scale];
    this.clear();
    this.context.drawImage(picture, (SIDE - width) / 2, (SIDE - height) / 2, width, height);
    this.onChange();
  }

  /** Return the drawing's channels, 3 planes of SIDE · SIDE numbers in [0, 1]. */
  pixels() {
    const { data } = this.context.getImageData(0, 0, SIDE, SIDE);
    return [0, 1, 2].map((c) =>
      Float32Array.from({ length: SIDE * SIDE }, (_, n) => data[4 * n + c] / 255),
    );
  }
}

/** Return the mean of the channels. */
export function grey(planes) {
  return planes[0].map((_, n) => (planes[0][n] + planes[1][n] + planes[2][n]) / 3);
}

/** Where a plane of SIDE · SIDE numbers is taken from: its middle, and pixels a pixel of the result. */
export const WHOLE = (height, width) => ({
  x: SIDE / 2,
  y: SIDE / 2,
  scale: SIDE / Math.min(height, width),
});

/**
 * Return where ink is taken from so that it lies as a data set's digits do: its longer side takes
 * the share `box` of the image, its centre of mass (`by` "mass") or of its box is in the middle.
 * Null if there is no ink.
 */
export function placement(plane, { box, by }, side) {
  let [left, right, top, bottom] = [SIDE, -1, SIDE, -1];
  let [mass, sumX, sumY] = [0, 0, 0];
  plane.forEach((ink, n) => {
    if (ink < 0.1) return;
    const [x, y] = [n % SIDE, Math.floor(n / SIDE)];
    [left, right] = [Math.min(left, x), Math.max(right, x)];
    [top, bottom] = [Math.min(top, y), Math.max(bottom, y)];
    mass += ink;
    sumX += ink * (x + 0.5);
    sumY += ink * (y + 0.5);
  });
  if (right < 0) return null;
  const longer = Math.max(right - left, bottom - top) + 1;
  const scale = longer / (box * side);
  if (by === "mass") return { x: sumX / mass, y: sumY / mass, scale };
  return { x: (left + right + 1) / 2, y: (top + bottom + 1) / 2, scale };
}

/** Return a plane as an image (height, width): each pixel is the mean of those it covers. */
export function resampled(plane, height, width, { x, y, scale }) {
  const found = new Float32Array(height * width);
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      const [left, top] = [x + (column - width / 2) * scale, y + (row - height / 2) * scale];
      found[row * width + column] = meanOver(plane, left, top, scale);
    }
  }
  return found;
}

/** Return the mean of a plane over a square, parts of pixels counted as such, 0 outside. */
function meanOver(plane, left, top, side) {
  let sum = 0;
  for (let v = Math.max(0, Math.floor(top)); v < Math.min(SIDE, top + side); v++) {
    const height = Math.min(v + 1, top + side) - Math.max(v, top);
    for (let u = Math.max(0, Math.floor(left)); u < Math.min(SIDE, left + side); u++) {
      const width = Math.min(u + 1, left + side) - Math.max(u, left);
      sum += height * width * plane[v * SIDE + u];
    }
  }
  return sum / side ** 2;
}
