// What the decoder makes of the code that is shown, beside the example that one looks at.

import { Bars, capital, coordinate, made, paintImage } from "./pictures.js";

/** Milliseconds without a change after which a screen reader is told of the new place. */
const QUIET = 500;

export class Decoded {
  constructor(state, { picture, beside, told, live }) {
    Object.assign(this, { state, picture, beside, told, live });
    const { card, examples } = state.data;
    if (state.isImage) {
      this.canvas = made("canvas", { className: "pixels", role: "img" });
      picture.append(this.canvas);
      this.own = made("canvas", { className: "pixels" });
    } else {
      this.bars = new Bars(picture, card, examples.range);
    }
    this.caption = made("figcaption", {});
    beside.append(...(this.own ? [this.own] : []), this.caption);
  }

  update(changes) {
    if (changes.has("code") || changes.has("model") || changes.has("plane")) this.show();
    if (changes.has("hover") || changes.has("input") || changes.has("model")) this.showBeside();
  }

  /** Return the example that is compared with: that under the mouse, or the input. */
  get compared() {
    const { hovered, input } = this.state;
    if (hovered === null) return input;
    return { x: this.state.exampleAt(hovered), name: this.state.nameOf(hovered) };
  }

  /** The number of the chosen example while its own code is what is decoded, or null. */
  get decodedExample() {
    const { input, code, model } = this.state;
    if (input.example === null) return null;
    const own = model.codeOf(input.example);
    return own.every((value, unit) => value === code[unit]) ? input.example : null;
  }

  show() {
    const { state } = this;
    const example = state.hovered ?? this.decodedExample;
    const isMade = state.model.grid && example !== null;
    const x = isMade ? state.reconstructed(example) : state.decoded(state.code);
    const { shape, range } = state.data.examples;
    if (state.isImage) paintImage(this.canvas, x, shape, range);
    else this.bars.show(x, this.compared.x);
    const nearest = state.nearest(state.code);
    const label = state.labelOf(nearest);
    const near =
      label === null
        ? state.nameOf(nearest)
        : `a ${state.data.examples.split} example of label ${label}`;
    const place = state.plane
      .project(state.code)
      .slice(0, state.plane.isLine ? 1 : 2)
      .map((value, n) => `${state.plane.names[n].replace(/ \(.*/, "")} = ${coordinate(value)}`);
    this.told.textContent = `${capital(place.join(", "))}. The nearest code is that of ${near}.`;
    this.canvas?.setAttribute("aria-label", `Decoded image. ${this.told.textContent}`);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.live.textContent = this.told.textContent;
    }, QUIET);
  }

  showBeside() {
    const { state } = this;
    const { x, name } = this.compared;
    const { shape, range } = state.data.examples;
    if (this.own) paintImage(this.own, x, shape, range);
    else this.bars.show(state.decoded(state.code), x);
    const verb = state.hovered === null ? "Chosen last" : "Under the mouse";
    this.caption.textContent = `${verb}: ${name}`;
  }
}
