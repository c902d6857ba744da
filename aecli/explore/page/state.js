// What the page shows, and who is told when it changes.

import { dot, Plane } from "./plane.js";
import { isAlike } from "./view.js";

/** A change is one of: model, plane, view, code, hover, input, morph. */
export class State {
  constructor(data, models) {
    this.data = data;
    this.models = models;
    this.number = models.length - 1;
    /** The code that stays when the mouse has gone, and that of the place it is at now. */
    this.anchor = null;
    this.preview = null;
    /** The example under the mouse, and the one that was chosen last, by number. */
    this.hovered = null;
    this.example = 0;
    /** What the encoder is given: x, its name, and the example's number if it is one. */
    this.input = null;
    /** The ends of the morph: a code, and the example's number if it is one. */
    this.ends = [null, null];
    this.views = [];
    /** What was chosen for the plane, where a model leaves a choice. */
    this.kind = null;
    this.changes = new Set();
    this.choosePlane({});
    this.chooseExample(0);
  }

  get model() {
    return this.models[this.number];
  }

  /** The code that is shown. */
  get code() {
    return this.preview ?? this.anchor;
  }

  get isImage() {
    return this.data.card.kind === "image";
  }

  /** Return the n-th example. */
  exampleAt(n) {
    const size = this.data.examples.x.length / this.data.examples.count;
    return this.data.examples.x.subarray(n * size, (n + 1) * size);
  }

  labelOf(n) {
    const { labels, names } = this.data.examples;
    return labels ? names[labels[n]] : null;
  }

  /** Return how an example is called in a sentence. */
  nameOf(n) {
    const label = this.labelOf(n);
    const name = `${this.data.examples.split} example ${this.data.examples.ids[n]}`;
    return label === null ? name : `${name}, label ${label}`;
  }

  /** Return the mean of p(x|z), or the nearest of the decodings that were made beforehand. */
  decoded(z) {
    const { model } = this;
    if (model.computes) return model.decode(z);
    const { columns, rows, low, high, decodings } = model.grid;
    const place = this.plane.project(z);
    const step = (axis, count) => {
      const share = (place[axis] - low[axis]) / (high[axis] - low[axis] || 1);
      return Math.min(count - 1, Math.max(0, Math.round(share * (count - 1))));
    };
    const size = decodings.length / (columns * rows);
    const cell = step(1, rows) * columns + step(0, columns);
    return decodings.subarray(cell * size, (cell + 1) * size);
  }

  /** Return what the model makes of the n-th example. */
  reconstructed(n) {
    const { model } = this;
    if (model.computes) return model.decode(model.codeOf(n));
    const { reconstructions } = model.grid;
    const size = reconstructions.length / this.data.examples.count;
    return reconstructions.subarray(n * size, (n + 1) * size);
  }

  /** Return the example whose code is nearest to z. */
  nearest(z) {
    const { codes, units } = this.model;
    let best = Number.POSITIVE_INFINITY;
    let found = 0;
    for (let n = 0, at = 0; n < this.data.examples.count; n++) {
      let distance = 0;
      for (let k = 0; k < units; k++, at++) distance += (codes[at] - z[k]) ** 2;
      if (distance < best) [best, found] = [distance, n];
    }
    return found;
  }

  chooseExample(n) {
    this.example = n;
    this.preview = null;
    this.anchor = this.model.codeOf(n);
    this.input = { x: this.exampleAt(n), name: this.nameOf(n), example: n };
    this.tell("code", "input");
  }

  /** Take an x that is no example: drawn, dropped or typed. */
  takeInput(x, name) {
    this.input = { x, name, example: null };
    this.tell("input");
  }

  /** Move to a code, and stay there. */
  moveTo(code) {
    this.anchor = code;
    this.preview = null;
    this.tell("code");
  }

  /** Show a code for now; null: go back to where one was. */
  show(code, hovered = null) {
    if (hovered !== this.hovered) this.tell("hover");
    this.preview = code;
    this.hovered = hovered;
    this.tell("code");
  }

  setEnd(which, code, example = null) {
    this.ends[which] = { code, example };
    this.tell("morph");
  }

  choosePlane({ kind, across, up }) {
    const { model } = this;
    const byCarried = [...model.order.slice(0, 2)].sort((a, b) => a - b);
    this.kind = kind ?? this.kind ?? "components";
    // A code of one or two units is a plane by itself, and a grid lies on the components.
    const only = model.units <= 2 ? "units" : model.grid ? "components" : null;
    this.choice = {
      kind: only ?? this.kind,
      across: within(across ?? this.choice?.across, model) ?? byCarried[0],
      up: within(up ?? this.choice?.up, model) ?? byCarried[1] ?? 0,
    };
    if (this.choice.across === this.choice.up && model.units > 1) {
      this.choice.up = model.order.find((unit) => unit !== this.choice.across);
    }
    this.plane = new Plane(model, this.choice);
    // Models with the same prior are looked at in one frame, so that a collapse is seen.
    const alike = this.models.filter(
      (other) => other !== model && other.prior === "normal" && model.prior === "normal",
    );
    const others = alike
      .filter((other) => other.units === model.units)
      .map((other) => new Plane(other, this.choice));
    /** The part of the plane that has all examples, and the part of it that is shown. */
    this.whole = this.plane.extent(others);
    this.extent = this.whole;
    this.tell("plane", "view");
  }

  /** Show another part of the plane. */
  look(extent) {
    if (isAlike(extent, this.extent)) return;
    this.extent = extent;
    this.tell("view");
  }

  chooseModel(number) {
    if (number === this.number) return;
    this.number = number;
    const { model, whole, extent } = this;
    this.choosePlane({});
    // In one frame the same part stays in view, so that what becomes of it is seen.
    if (isAlike(whole, this.whole)) this.look(extent);
    if (this.input.example === null && model.computes) {
      this.anchor = model.encode(this.input.x).code;
    } else {
      this.anchor = model.codeOf(this.example);
    }
    this.preview = null;
    this.ends = this.ends.map((end) =>
      end?.example != null ? { ...end, code: model.codeOf(end.example) } : null,
    );
    this.tell("model", "code", "input", "morph");
  }

  /** Tell the views of changes, once before the next frame. */
  tell(...changes) {
    if (this.changes.size === 0) requestAnimationFrame(() => this.update());
    for (const change of changes) this.changes.add(change);
  }

  update() {
    const { changes } = this;
    this.changes = new Set();
    for (const view of this.views) view.update(changes);
  }
}

const within = (unit, model) => (unit !== undefined && unit < model.units ? unit : undefined);

/** Return how long a code is in the plane's directions, for a sentence. */
export function distance(a, b) {
  const between = a.map((value, n) => value - b[n]);
  return Math.sqrt(dot(between, between));
}
