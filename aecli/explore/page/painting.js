// The plane filled with decodings: what the decoder makes of a grid of places, behind the points.

import { paintImage } from "./pictures.js";

const SIDE = 20;
/** Milliseconds of work between two frames. */
const AT_ONCE = 10;

export class Painting {
  constructor(state, map, checkbox) {
    Object.assign(this, { state, map, checkbox });
    this.canvas = document.createElement("canvas");
    this.cell = document.createElement("canvas");
    map.background = () => (checkbox.checked ? this.canvas : null);
    checkbox.addEventListener("change", () => this.start());
  }

  update(changes) {
    // Only the place on the plane changes with the mouse, and the painting does not depend on it.
    const isMoved = ["plane", "model", "view"].some((change) => changes.has(change));
    if (this.checkbox.checked && (isMoved || this.isStale())) this.start();
  }

  /** Return whether the code has changed in a direction that is not on the plane. */
  isStale() {
    const { plane, anchor } = this.state;
    const rest = plane.moved(anchor, [0, 0]);
    return !this.rest || rest.some((value, n) => Math.abs(value - this.rest[n]) > 1e-3);
  }

  start() {
    const { state, map } = this;
    this.rest = state.plane.moved(state.anchor, [0, 0]);
    this.next = 0;
    if (!this.checkbox.checked) {
      map.draw();
      return;
    }
    const [, height, width] = state.data.examples.shape;
    this.takeAlong(SIDE * width, SIDE * height);
    const task = {};
    this.task = task;
    const work = () => {
      if (task !== this.task) return;
      const end = performance.now() + AT_ONCE;
      while (this.next < SIDE * SIDE && performance.now() < end) this.paint(this.next++);
      map.draw();
      if (this.next < SIDE * SIDE) requestAnimationFrame(work);
    };
    work();
  }

  /** Move what was painted of the same plane to where it is now; it stays until it is painted over. */
  takeAlong(width, height) {
    const { canvas, map, state } = this;
    const before = { plane: this.plane, extent: this.extent };
    Object.assign(this, { plane: state.plane, extent: state.extent });
    if (before.plane !== state.plane) {
      Object.assign(canvas, { width, height }); // which clears it
      return;
    }
    if (before.extent === state.extent) return;
    const { middle, half } = before.extent;
    const [left, top] = map.toCanvas([middle[0] - half[0], middle[1] + half[1]]);
    const [right, bottom] = map.toCanvas([middle[0] + half[0], middle[1] - half[1]]);
    const copy = document.createElement("canvas");
    Object.assign(copy, { width, height });
    copy.getContext("2d").drawImage(canvas, 0, 0);
    const context = canvas.getContext("2d");
    const [across, down] = [width / map.size, height / map.size];
    context.clearRect(0, 0, width, height);
    context.drawImage(
      copy,
      left * across,
      top * down,
      (right - left) * across,
      (bottom - top) * down,
    );
  }

  paint(n) {
    const { state, map } = this;
    const [, height, width] = state.data.examples.shape;
    const [column, row] = [n % SIDE, Math.floor(n / SIDE)];
    const step = map.size / SIDE;
    const place = map.toPlane([(column + 0.5) * step, (row + 0.5) * step]);
    const x = state.decoded(state.plane.moved(this.rest, place));
    paintImage(this.cell, x, state.data.examples.shape, state.data.examples.range);
    this.canvas.getContext("2d").drawImage(this.cell, column * width, row * height);
  }
}
