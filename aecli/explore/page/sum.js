// Of a decoder that is one linear layer: the reconstruction as a sum of pictures that builds up.

import { largestFirst } from "./network.js";
import { coordinate, made, paintImage, paintSigned } from "./pictures.js";

/** Pictures that are shown, and that the slider goes up to, at most. */
const SHOWN = 24;
const MOST = 200;

export class Sum {
  constructor(state, parts) {
    Object.assign(this, { state, parts });
    this.count = this.usual();
    parts.count.addEventListener("input", () => {
      this.count = parts.count.valueAsNumber;
      this.show();
      this.state.moveTo(this.code);
    });
  }

  usual() {
    const { sparsity, units } = this.state.model;
    return sparsity ? sparsity.k : Math.min(units, 12);
  }

  update(changes) {
    if (!this.state.model.sum) return;
    if (changes.has("model")) this.count = this.usual();
    if (changes.has("model") || changes.has("input")) this.show();
  }

  show() {
    const { state, parts, count } = this;
    const { model, data } = state;
    const { sparsity } = model;
    const most = Math.min(model.units, sparsity ? Math.max(4 * sparsity.k, 8) : MOST);
    parts.count.max = most;
    parts.count.value = count;
    parts.number.textContent = count;
    const { code } = model.encode(state.input.x, sparsity ? count : null);
    const sizes = code.map(Math.abs);
    const on = largestFirst(sizes)
      .filter((unit) => code[unit] !== 0)
      .slice(0, count);
    this.code = new Float32Array(code.length);
    for (const unit of on) this.code[unit] = code[unit];
    const { shape, range } = data.examples;
    const terms = on
      .slice(0, SHOWN)
      .map((unit) => ({ unit, picture: model.filter(unit).map((a) => a * code[unit]) }));
    const brightest = Math.max(
      ...terms.flatMap(({ picture }) => [picture.reduce((m, a) => Math.max(m, Math.abs(a)), 0)]),
      1e-6,
    );
    const sum = Float32Array.from(model.bias);
    const figures = [this.figure("bias", null, sum, shape, range, brightest)];
    for (const { unit, picture } of terms) {
      for (let n = 0; n < sum.length; n++) sum[n] += picture[n];
      figures.push(
        this.figure(
          `unit ${unit}: ${coordinate(code[unit])}`,
          picture,
          sum,
          shape,
          range,
          brightest,
        ),
      );
    }
    parts.terms.replaceChildren(...figures);
    const rest = on.length - terms.length;
    parts.told.textContent = sparsity
      ? `k = ${count}: of ${model.units.toLocaleString("en")} units the ${count} largest are on (trained with ${sparsity.trained}). Each adds its picture, the column of the decoder, times its value.`
      : `The ${on.length} largest units of ${model.units.toLocaleString("en")}. Each adds its picture, the column of the decoder, times its value.`;
    if (rest > 0)
      parts.told.textContent += ` The first ${SHOWN} are shown, ${rest} more are added.`;
  }

  figure(name, picture, sum, shape, range, most) {
    const above = made("canvas", { className: "pixels" });
    const below = made("canvas", { className: "pixels" });
    const { model } = this.state;
    if (picture) paintSigned(above, picture, shape, most);
    else paintSigned(above, model.bias, shape, 1);
    const isSigmoid = model.likelihood.output === "sigmoid";
    paintImage(below, isSigmoid ? sum.map((a) => 1 / (1 + Math.exp(-a))) : sum, shape, range);
    return made("figure", {}, above, below, made("figcaption", { text: name }));
  }
}
