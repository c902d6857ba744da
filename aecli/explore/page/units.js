// A slider for each unit of the code, those that carry most first.

import { greatest } from "./network.js";
import { normal } from "./noise.js";
import { coordinate, filled, made, short } from "./pictures.js";

/** Sliders that are there before one asks for all. */
const FEW = 24;
const STEPS = 200;
/** Nats below which a unit of a posterior counts as one that says nothing. */
const NOTHING = 0.01;

export class Units {
  constructor(state, { list, told, more, middle, drawn }) {
    Object.assign(this, { state, list, told, more, drawn });
    middle.addEventListener("click", () => state.moveTo(Float32Array.from(state.model.mean)));
    drawn.addEventListener("click", () => {
      state.moveTo(Float32Array.from({ length: state.model.units }, () => normal(Math.random)));
    });
    this.showsAll = false;
    more.addEventListener("click", () => {
      this.showsAll = true;
      this.make();
    });
    this.make();
  }

  update(changes) {
    if (changes.has("model")) this.make();
    else if (changes.has("code")) this.show();
  }

  make() {
    const { state } = this;
    const { model } = state;
    const units = this.showsAll ? model.order : model.order.slice(0, FEW);
    // A unit that says nothing has no full bar, not even where no other says more.
    const most = Math.max(greatest(model.carried), model.kl ? 10 * NOTHING : 1e-9);
    this.rows = units.map((unit) => this.row(unit, most));
    filled(
      this.list,
      this.rows.map(({ element }) => element),
    );
    this.drawn.hidden = model.prior !== "normal";
    this.more.hidden = units.length === model.units;
    this.more.textContent = `Show all ${model.units.toLocaleString("en")} units`;
    const { measured, kl } = model.figures;
    const { split } = state.data.examples;
    const mean = `over ${measured.toLocaleString("en")} ${split} examples`;
    this.told.textContent =
      kl === null
        ? `The bar is the variance of the unit ${mean}: a unit that does not vary says nothing.`
        : `The bar is what the unit tells about an example: KL(q(z|x) ‖ p(z)) in nats, the mean ${mean}; ${short(kl)} nats in all (a nat is 1.44 bits). At 0 it tells nothing.`;
    this.show();
  }

  row(unit, most) {
    const { state } = this;
    const { model } = state;
    const [low, high] = reach(model, unit);
    const slider = made("input", {
      type: "range",
      min: low,
      max: high,
      step: (high - low) / STEPS,
      "aria-label": `unit ${unit}`,
    });
    const value = made("output", {});
    const carried = model.carried[unit];
    const bar = made("i", { className: "bar" });
    bar.style.width = `${(100 * carried) / most}%`;
    const name = model.kl ? `${short(carried)} nats` : short(carried);
    const element = made(
      "li",
      { className: model.kl && carried < NOTHING ? "silent" : "" },
      made("span", { className: "name", text: `unit ${unit}` }),
      made("span", { className: "track", title: name }, bar),
      made("span", { className: "carried", text: name }),
      slider,
      value,
    );
    slider.addEventListener("input", () => {
      const code = Float32Array.from(state.anchor);
      code[unit] = slider.valueAsNumber;
      state.moveTo(code);
    });
    return { unit, slider, value, element };
  }

  show() {
    const { code } = this.state;
    for (const { unit, slider, value } of this.rows) {
      if (slider !== document.activeElement || this.state.preview) slider.value = code[unit];
      value.textContent = coordinate(code[unit]);
    }
  }
}

/** Return the values that a unit takes, and some room. */
function reach(model, unit) {
  let [low, high] = model.prior === "normal" ? [-3.5, 3.5] : [0, 0];
  for (let n = unit; n < model.codes.length; n += model.units) {
    low = Math.min(low, model.codes[n]);
    high = Math.max(high, model.codes[n]);
  }
  if (high - low < 1e-6) return [low - 1, high + 1];
  const room = model.prior === "normal" ? 0 : 0.1 * (high - low);
  return [low < 0 ? low - room : low, high + room];
}
