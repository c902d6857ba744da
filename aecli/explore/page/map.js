// The map: test examples at their codes, the prior, and the point that the decoder follows.

import { COLOURS, MapDrawing } from "./drawing.js";
import { made, paintImage } from "./pictures.js";
import { DEEPEST, including, isInView, panned, zoom, zoomed } from "./view.js";

/** CSS pixels: nearer to an example than this, the mouse is at it; farther, a press is a drag. */
const NEAR = 12;
const DRAG = 6;
/** Shares of the map's width that the arrow keys move the point by, and with Shift. */
const STEP = 1 / 80;
const LEAP = 1 / 12;
/** How much larger a press of a button or a key makes things; and the wheel, by a pixel of it. */
const CLOSER = 1.6;
const WHEEL = 0.008;
/** Pixels of the wheel that one event counts for, at most: of a mouse's it has a hundred. */
const NOTCH = 50;
const LINE = 16;
const MILLISECONDS = 450;

export class CodeMap extends MapDrawing {
  constructor(state, { canvas, tip, legend, closer, farther, whole }) {
    super(state, canvas);
    Object.assign(this, { tip, legend, closer, farther, whole });
    this.pressed = null;
    /** Where the mouse holds the map itself, and where the fingers are, by the pointer's number. */
    this.held = null;
    this.fingers = new Map();
    this.makeLegend();
    canvas.addEventListener("pointermove", (event) => this.onMove(event));
    canvas.addEventListener("pointerdown", (event) => this.onDown(event));
    canvas.addEventListener("pointerup", (event) => this.onUp(event));
    canvas.addEventListener("pointercancel", (event) => this.onCancel(event));
    canvas.addEventListener("pointerleave", () => this.onLeave());
    canvas.addEventListener("keydown", (event) => this.onKey(event));
    canvas.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
    closer.addEventListener("click", () => this.zoomAtPoint(CLOSER));
    farther.addEventListener("click", () => this.zoomAtPoint(1 / CLOSER));
    whole.addEventListener("click", () => state.look(state.whole));
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
    if (this.held) {
      this.pan(this.held, place);
      this.held = place;
      return;
    }
    if (this.fingers.has(event.pointerId)) this.pinch(event.pointerId, place);
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
    const { state, fingers } = this;
    this.canvas.setPointerCapture(event.pointerId);
    const place = this.at(event);
    if (event.pointerType === "mouse") {
      if (event.shiftKey) this.held = place;
      else this.pressed = place;
      return;
    }
    fingers.set(event.pointerId, place);
    if (fingers.size === 1) {
      this.before = state.anchor;
      this.pressed = place;
      state.moveTo(this.codeAt(place));
    } else {
      // Two fingers move the map, and the first of them did not mean to move the point.
      if (this.pressed) state.moveTo(this.before);
      this.pressed = null;
    }
  }

  onCancel(event) {
    this.fingers.delete(event.pointerId);
    this.onLeave();
  }

  onUp(event) {
    this.fingers.delete(event.pointerId);
    this.held = null;
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
    this.pressed = this.line = this.held = null;
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
      state.look(including(state.extent, state.whole, to));
    } else if (["+", "=", "-", "0"].includes(event.key)) {
      if (event.ctrlKey || event.metaKey) return; // the browser's own
      event.preventDefault();
      if (event.key === "0") state.look(state.whole);
      else this.zoomAtPoint(event.key === "-" ? 1 / CLOSER : CLOSER);
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      state.chooseExample(state.nearest(state.anchor));
    }
  }

  // --- what is shown of the plane

  /** The wheel with Ctrl, which two fingers on a touchpad are, too; alone it scrolls the page. */
  onWheel(event) {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    const pixels = event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_LINE ? LINE : 1);
    const notch = Math.min(NOTCH, Math.max(-NOTCH, pixels));
    this.zoomAt(this.at(event), Math.exp(-WHEEL * notch));
  }

  /** Keep what is at a place of the canvas there. */
  zoomAt(place, factor) {
    const { state } = this;
    state.look(zoomed(state.extent, state.whole, factor, this.toPlane(place)));
  }

  /** Keep the point where it is, or the middle, if the point is not in view. */
  zoomAtPoint(factor) {
    const { state } = this;
    const point = state.plane.project(state.anchor);
    const place = isInView(state.extent, point) ? point : state.extent.middle;
    state.look(zoomed(state.extent, state.whole, factor, place));
  }

  /** Move the map with the mouse or the fingers, from one place of the canvas to another. */
  pan(from, to) {
    const { state } = this;
    const [a, b] = [from, to].map((place) => this.toPlane(place));
    const by = b.map((value, n) => value - a[n]);
    state.look(panned(state.extent, state.whole, by));
  }

  pinch(pointer, place) {
    const { fingers } = this;
    const other = [...fingers.keys()].find((key) => key !== pointer);
    const before = fingers.get(pointer);
    fingers.set(pointer, place);
    if (other === undefined) return;
    const rest = fingers.get(other);
    const apart = ([x, y]) => Math.max(1, Math.hypot(x - rest[0], y - rest[1]));
    const between = ([x, y]) => [(x + rest[0]) / 2, (y + rest[1]) / 2];
    this.zoomAt(between(before), apart(place) / apart(before));
    this.pan(between(before), between(place));
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
    if (changes.has("view")) {
      const depth = zoom(this.state.extent, this.state.whole);
      this.closer.disabled = depth > 0.999 * DEEPEST;
      this.farther.disabled = this.whole.disabled = depth <= 1;
    }
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
