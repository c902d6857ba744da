// From A to B: the decoder along the straight line between two codes.

import { made, paintImage, short } from "./pictures.js";
import { onTheWay } from "./plane.js";

const STEPS = 9;

export class Morph {
  constructor(state, parts) {
    Object.assign(this, { state, parts });
    parts.share.addEventListener("input", () => this.go());
    parts.here.forEach((button, which) => {
      button.addEventListener("click", () => {
        const near = state.nearest(state.anchor);
        const isThere = state.model
          .codeOf(near)
          .every((a, n) => Math.abs(a - state.anchor[n]) < 1e-6);
        state.setEnd(which, Float32Array.from(state.anchor), isThere ? near : null);
      });
    });
    parts.random.addEventListener("click", () => this.random());
    if (state.isImage) {
      this.strip = this.canvases(parts.strip);
      this.pixels = this.canvases(parts.pixels);
    }
  }

  canvases(host) {
    const found = Array.from({ length: STEPS }, () => made("canvas", { className: "pixels" }));
    host.append(...found);
    found.forEach((canvas, n) => {
      canvas.addEventListener("click", () => {
        this.parts.share.value = n / (STEPS - 1);
        this.go();
      });
    });
    return found;
  }

  /** Choose two examples of different labels. */
  random() {
    const { state } = this;
    const { count } = state.data.examples;
    const draw = () => Math.floor(Math.random() * count);
    const first = draw();
    let second = draw();
    for (let tries = 0; tries < 50 && state.labelOf(second) === state.labelOf(first); tries++) {
      second = draw();
    }
    [first, second].forEach((n, which) => {
      state.setEnd(which, state.model.codeOf(n), n);
    });
    this.parts.share.value = 0.5;
    this.go();
  }

  /** Move to the share of the way that the slider says. */
  go() {
    const { state, parts } = this;
    const [from, to] = state.ends;
    if (!from || !to) return;
    state.moveTo(onTheWay(from.code, to.code, parts.share.valueAsNumber));
    this.tell();
  }

  tell() {
    const share = this.parts.share.valueAsNumber;
    this.parts.formula.textContent = `z = ${short(1 - share)} · A + ${short(share)} · B`;
  }

  update(changes) {
    if (!changes.has("morph") && !changes.has("model")) return;
    const { state, parts } = this;
    const [from, to] = state.ends;
    const isReady = Boolean(from && to);
    parts.path.hidden = !isReady;
    parts.names.forEach((name, which) => {
      const end = state.ends[which];
      name.textContent = end
        ? end.example === null
          ? "a place of the map"
          : state.nameOf(end.example)
        : "not chosen yet";
    });
    if (!isReady) return;
    this.tell();
    if (!state.isImage) return;
    const { shape, range } = state.data.examples;
    this.strip.forEach((canvas, n) => {
      const z = onTheWay(from.code, to.code, n / (STEPS - 1));
      paintImage(canvas, state.decoded(z), shape, range);
    });
    const areExamples = from.example !== null && to.example !== null;
    parts.pixelsFigure.hidden = !areExamples;
    if (!areExamples) return;
    const [x, y] = [from, to].map((end) => state.exampleAt(end.example));
    this.pixels.forEach((canvas, n) => {
      paintImage(canvas, onTheWay(x, y, n / (STEPS - 1)), shape, range);
    });
  }
}
