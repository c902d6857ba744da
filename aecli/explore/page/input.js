// What the encoder is given: an example, a drawing, a picture, a row. Through noise, if the run was
// trained with one, into a code, and back.

import { Form } from "./form.js";
import { corrupted } from "./noise.js";
import { grey, Pen, placement, resampled, SIDE, WHOLE } from "./pen.js";
import { capital, paintErrors, paintImage, short } from "./pictures.js";

export class Input {
  /** `parts` are the elements of the panel by their ids. */
  constructor(state, parts) {
    Object.assign(this, { state, parts, seed: 1 });
    this.level = state.model.noise?.level ?? 0;
    if (state.isImage) this.makePen();
    else {
      this.form = new Form(state, parts, (x) => {
        state.takeInput(x, "the row that you typed");
        this.isNew = true;
      });
    }
    this.makeNoise();
  }

  // --- images

  makePen() {
    const { state, parts } = this;
    const [channels] = state.data.card.shape;
    this.isGrey = channels === 1;
    this.pen = new Pen(parts.pen, {
      onChange: () => this.take("your drawing"),
      onPicture: (file) => this.drop(file),
    });
    this.pen.onStart = () => {
      // A digit is drawn anew; on a colour picture one draws over what is there.
      if (!this.isDrawn && this.isGrey) this.pen.clear();
      this.isDrawn = true;
    };
    parts.clear.addEventListener("click", () => {
      this.pen.clear();
      this.isDrawn = true;
      this.take("an empty image");
    });
    parts.file.addEventListener("change", () => {
      const [file] = parts.file.files;
      if (file) this.drop(file);
    });
    parts.centred.parentElement.hidden = !state.data.pen;
    parts.centred.addEventListener("change", () => this.isDrawn && this.take("your drawing"));
  }

  async drop(file) {
    try {
      await this.pen.show(file);
    } catch {
      this.parts.told.textContent = `${file.name} is no picture that this browser can read.`;
      return;
    }
    this.isDrawn = true;
    this.take("your picture");
  }

  /** Give the encoder what is on the canvas. */
  take(name) {
    const { state, parts } = this;
    const [channels, height, width] = state.data.card.shape;
    let planes = this.pen.pixels();
    if (channels !== 3) planes = [grey(planes)];
    const { pen } = state.data;
    // Ink is ink on white paper and on black; of a photograph light and dark say what is there.
    if (pen && this.isReversed(planes[0])) planes = planes.map((p) => p.map((a) => 1 - a));
    let place = WHOLE(height, width);
    if (pen && parts.centred.checked)
      place = placement(planes[0], pen, Math.min(height, width)) ?? place;
    const inks = planes.map((plane) => resampled(plane, height, width, place));
    const x = new Float32Array(channels * height * width).fill(1);
    for (let c = 0; c < channels; c++) {
      if (c < 3 || channels !== 4) x.set(inks[Math.min(c, inks.length - 1)], c * height * width);
    }
    state.takeInput(x, name);
    this.isNew = true;
  }

  /** Return whether a picture has the background white, and the data has it black, or vice versa. */
  isReversed(plane) {
    const edge = (values, side) =>
      values.filter((_, n) => n % side === 0 || n < side || n >= side * (side - 1));
    const brightness = (values) => values.reduce((a, b) => a + b, 0) / values.length;
    this.isDark ??= brightness(edge(this.state.exampleAt(0), this.state.data.card.shape[2])) < 0.5;
    return brightness(edge(plane, SIDE)) > 0.5 === this.isDark;
  }

  // --- the noise

  makeNoise() {
    const { parts } = this;
    parts.level.addEventListener("input", () => {
      this.level = parts.level.valueAsNumber;
      this.isNew = true;
      this.state.tell("input");
    });
    parts.again.addEventListener("click", () => {
      this.seed++;
      this.isNew = true;
      this.state.tell("input");
    });
  }

  showNoise() {
    const { parts } = this;
    const { noise } = this.state.model;
    parts.noise.hidden = !noise;
    if (!noise) return;
    const isGaussian = noise.kind === "gaussian";
    const range = noise.high - noise.low;
    parts.level.max = isGaussian ? Math.max(range, 2 * noise.level) : 1;
    parts.level.step = parts.level.max / 100;
    parts.level.value = this.level;
    const unit = isGaussian ? "standard deviation" : "share of the features";
    parts.amount.textContent = short(this.level);
    parts.kind.textContent = `${noise.kind} noise, ${unit} (trained with ${short(noise.level)})`;
  }

  // --- all of it

  update(changes) {
    if (!changes.has("input") && !changes.has("model")) return;
    if (!this.state.model.computes) return;
    if (changes.has("model")) this.level = this.state.model.noise?.level ?? 0;
    this.showNoise();
    this.show();
  }

  show() {
    const { state, parts, isNew } = this;
    const { model, input } = state;
    this.isNew = false;
    const seen = model.noise ? corrupted(model.noise, this.level, input.x, this.seed) : input.x;
    const encoded = model.encode(seen);
    state.encoded = encoded;
    const mean = model.decode(encoded.code);
    if (isNew) state.moveTo(encoded.code);
    const score = model.score(input.x, encoded);
    if (state.isImage) {
      const { shape, range } = state.data.examples;
      paintImage(parts.clean, input.x, shape, range);
      parts.seenFigure.hidden = !model.noise;
      paintImage(parts.seen, seen, shape, range);
      paintImage(parts.output, mean, shape, range);
      paintErrors(parts.errors, model.errors(mean, input.x), shape);
      if (input.example !== null) this.copyToPen();
    } else {
      if (input.example !== null) this.form.fill(input.x);
      this.form.show(input.x, model.noise ? seen : null, mean);
    }
    // The scores of the examples are without noise, and only such a one is ranked among them.
    const isNoisy = model.noise && this.level > 0;
    const clean = isNoisy ? model.score(input.x, model.encode(input.x)) : score;
    parts.told.textContent = this.sentence(score, clean, isNoisy);
  }

  /** Show an example where one draws. */
  copyToPen() {
    this.isDrawn = false;
    const { clean } = this.parts;
    const scale = SIDE / Math.min(clean.width, clean.height);
    const [width, height] = [clean.width * scale, clean.height * scale];
    const { context } = this.pen;
    context.imageSmoothingEnabled = false;
    context.drawImage(clean, (SIDE - width) / 2, (SIDE - height) / 2, width, height);
  }

  /** Say what the input costs, and how that of the `clean` input ranks among the examples. */
  sentence({ value, mse, nll, kl }, clean, isNoisy) {
    const { model, input } = this.state;
    const rank = Math.round(100 * model.rank(clean.value));
    const parts =
      nll === null
        ? [`Squared error per feature: ${short(mse)}.`]
        : [
            `−log p(x|z) = ${short(nll)} nats`,
            ...(kl === null
              ? ["."]
              : [` + KL(q(z|x) ‖ p(z)) = ${short(kl)} nats: −ELBO about ${short(value)}.`]),
          ];
    const what = input.example === null ? input.name : "this example";
    const scores = isNoisy
      ? `Without the noise ${what} scores ${short(clean.value)}, higher`
      : `${capital(what)} scores higher`;
    return `${parts.join("")} ${scores} than ${rank} % of the examples on the map${
      rank > 99 ? ": the model has seen nothing like it." : "."
    }`;
  }
}
