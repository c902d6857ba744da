// The map: test examples at their codes, the prior, and the point that the decoder follows.

import { COLOURS, MapDrawing } from "./drawing.js";
import { made, paintImage } from "./pictures.js";

/** CSS pixels: nearer to an example than this, the mouse is at it; farther, a press is a drag. */
const NEAR = 12;
const DRAG = 6;
/** Shares of the map's width that the arrow keys move the point by, and with Shift. */
const STEP = 1 / 80;
const LEAP = 1 / 12;
const MILLISECONDS = 450;

export class CodeMap extends MapDrawing {
  constructor(state, { canvas, tip, legend }) {
    super(state, canvas);
    Object.assign(this, { tip, legend });
    this.pressed = null;
    this.makeLegend();
    canvas.addEventListener("pointermove", (event) => this.onMove(event));
    canvas.addEventListener("pointerdown", (event) => this.onDown(event));
    canvas.addEventListener("pointerup", (event) => this.onUp(event));
    canvas.addEventListener("pointercancel", () => this.onLeave());
    canvas.addEventListener("pointerleave", () => this.onLeave());
    canvas.addEventListener("keydown", (event) => this.onKey(event));
  }

  makeLegend() {
    const { names } = this.state.data.examples;
    const entries = names
      .map((name, label) => ({ name, label, rank: this.ranks[label] }))
      .filter(({ rank }) => rank >= 0);
    this.legend.replaceChildren(
      ...entries.map(({ name, label, rank }) => {
        const swatch = made("i", { className: `swatch colour-${rank}` });
        const button = made("button", { type: "button", "aria-pressed": "false" }, swatch, name);
        button.addEventListener("click", () => {
          this.chosenLabel = this.chosenLabel === label ? null : label;
          for (const other of this.legend.children) {
            other.setAttribute("aria-pressed", other === button && this.chosenLabel !== null);
          }
          this.draw();
        });
        return button;
      }),
    );
    if (names.length > COLOURS) {
      const others = `${names.length - COLOURS} others`;
      this.legend.append(made("span", {}, made("i", { className: "swatch" }), others));
    }
  }

  /** Return the example at a place of the canvas; null if none is near. */
  exampleNear([left, top]) {
    let best = NEAR * NEAR;
    let found = null;
    for (let n = 0; n < this.places.length / 2; n++) {
      if (this.chosenLabel !== null && this.labelNumber(n) !== this.chosenLabel) continue;
      const [x, y] = this.toCanvas(this.placeOf(n));
      const distance = (x - left) ** 2 + (y - top) ** 2;
      if (distance < best) [best, found] = [distance, n];
    }
    return found;
  }

  labelNumber(n) {
    return this.state.data.examples.labels?.[n] ?? null;
  }

  // --- the mouse, a finger, the keys

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  codeAt(place) {
    const { state } = this;
    return state.plane.moved(state.anchor, this.toPlane(place));
  }

  onMove(event) {
    const place = this.at(event);
    if (this.pressed && event.pointerType !== "mouse") {
      this.state.moveTo(this.codeAt(place));
      return;
    }
    if (this.pressed) {
      const far = Math.hypot(place[0] - this.pressed[0], place[1] - this.pressed[1]) > DRAG;
      if (far || this.line) this.line = [this.pressed, place];
    }
    const hovered = this.exampleNear(place);
    this.state.show(this.codeAt(place), hovered);
    this.showTip(place, hovered);
  }

  onDown(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.pressed = this.at(event);
    if (event.pointerType !== "mouse") this.state.moveTo(this.codeAt(this.pressed));
  }

  onUp(event) {
    const { state, pressed, line } = this;
    this.pressed = this.line = null;
    if (!pressed) return;
    const place = this.at(event);
    if (line) {
      this.setEnd(0, pressed);
      this.setEnd(1, place);
      this.onDragged?.();
      return;
    }
    const near = this.exampleNear(place);
    if (near !== null) state.chooseExample(near);
    else state.moveTo(this.codeAt(place));
  }

  setEnd(which, place) {
    const near = this.exampleNear(place);
    const code = near === null ? this.codeAt(place) : this.state.model.codeOf(near);
    this.state.setEnd(which, code, near);
  }

  onLeave() {
    this.pressed = this.line = null;
    this.tip.hidden = true;
    if (this.state.preview || this.state.hovered !== null) this.state.show(null);
  }

  onKey(event) {
    const { state } = this;
    const direction = {
      ArrowLeft: [-1, 0],
      ArrowRight: [1, 0],
      ArrowUp: [0, 1],
      ArrowDown: [0, -1],
    }[event.key];
    if (direction) {
      event.preventDefault();
      const share = 2 * (event.shiftKey ? LEAP : STEP);
      const place = state.plane.project(state.anchor);
      const to = place.map((value, n) => value + direction[n] * share * state.extent.half[n]);
      state.moveTo(state.plane.moved(state.anchor, to));
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      state.chooseExample(state.nearest(state.anchor));
    }
  }

  showTip([left, top], n) {
    this.tip.hidden = n === null;
    if (n === null) return;
    const { state, tip } = this;
    if (this.tipOf !== n) {
      this.tipOf = n;
      const parts = [made("span", { text: state.nameOf(n) })];
      if (state.isImage) {
        const picture = made("canvas", { className: "pixels" });
        paintImage(
          picture,
          state.exampleAt(n),
          state.data.examples.shape,
          state.data.examples.range,
        );
        parts.unshift(picture);
      }
      tip.replaceChildren(...parts);
    }
    const isRight = left > this.size / 2;
    tip.style.left = isRight ? "" : `${left + 16}px`;
    tip.style.right = isRight ? `${this.size - left + 16}px` : "";
    tip.style.top = `${Math.max(0, top - 24)}px`;
  }

  update(changes) {
    if (changes.has("model")) this.travel();
    else if (changes.has("plane")) this.arrive(this.state.plane.places());
    this.draw();
  }

  arrive(places) {
    this.places = places;
    this.goal = null;
  }

  /** Let the examples travel to their codes in another model, unless motion is not wanted. */
  travel() {
    const [from, to] = [this.places, this.state.plane.places()];
    this.arrive(to);
    const isCalm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (isCalm || from.length !== to.length) return;
    const start = performance.now();
    const step = (now) => {
      if (this.goal !== to) return;
      const share = Math.min(1, (now - start) / MILLISECONDS);
      const eased = share * share * (3 - 2 * share);
      this.places = share < 1 ? from.map((a, n) => a + eased * (to[n] - a)) : to;
      this.draw();
      if (share < 1) requestAnimationFrame(step);
    };
    this.goal = to;
    this.places = from;
    requestAnimationFrame(step);
  }
}
