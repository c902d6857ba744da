// The map as it is drawn: test examples at their codes, the prior, the posterior, the point.

import { atTick } from "./pictures.js";
import { CIRCLES } from "./plane.js";
import { isInView } from "./view.js";

/** Labels with a colour of their own; all others share one. */
export const COLOURS = 10;

export class MapDrawing {
  constructor(state, canvas) {
    Object.assign(this, { state, canvas });
    this.context = canvas.getContext("2d");
    this.places = state.plane.places();
    this.ranks = this.colourRanks();
    /** The label that is shown alone, by number, and the ends of a line that is being drawn. */
    this.chosenLabel = null;
    this.line = null;
    /** Returns a picture to draw behind all, or null; see `painting.js`. */
    this.background = () => null;
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  /** Return the colour's number of each label: the commonest ones have one. */
  colourRanks() {
    const { labels, names } = this.state.data.examples;
    if (!labels) return [];
    const counts = names.map(() => 0);
    for (const label of labels) counts[label]++;
    const common = [...names.keys()].sort((a, b) => counts[b] - counts[a]).slice(0, COLOURS);
    common.sort((a, b) => a - b);
    return names.map((_, label) => common.indexOf(label));
  }

  // --- from the plane to the canvas and back, in CSS pixels

  get size() {
    return this.canvas.clientWidth;
  }

  toCanvas([x, y]) {
    const { middle, half } = this.state.extent;
    const scale = this.size / 2;
    return [scale * (1 + (x - middle[0]) / half[0]), scale * (1 - (y - middle[1]) / half[1])];
  }

  toPlane([left, top]) {
    const { middle, half } = this.state.extent;
    const scale = this.size / 2;
    return [middle[0] + (left / scale - 1) * half[0], middle[1] - (top / scale - 1) * half[1]];
  }

  placeOf(n) {
    return [this.places[2 * n], this.places[2 * n + 1]];
  }

  // --- drawing

  draw() {
    const { canvas, context, size } = this;
    if (!size) return;
    const ratio = globalThis.devicePixelRatio || 1;
    const pixels = Math.round(size * ratio);
    if (canvas.width !== pixels) canvas.width = canvas.height = pixels;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, size, size);
    this.style = getComputedStyle(canvas);
    this.drawBackground();
    this.drawAxes();
    this.drawPoints();
    this.drawNames();
    this.drawEllipse();
    this.drawMorph();
    this.drawPoint();
  }

  colour(name) {
    return this.style.getPropertyValue(`--${name}`).trim();
  }

  colourOf(label) {
    const rank = this.ranks[label] ?? -1;
    return this.colour(rank >= 0 ? `colour-${rank}` : "other");
  }

  drawBackground() {
    const picture = this.background();
    if (!picture) return;
    this.context.imageSmoothingEnabled = false;
    this.context.drawImage(picture, 0, 0, this.size, this.size);
  }

  drawAxes() {
    const { context, size, state } = this;
    const [zeroX, zeroY] = this.toCanvas([0, 0]);
    context.lineWidth = 1;
    context.strokeStyle = this.colour("line");
    context.beginPath();
    context.moveTo(zeroX, 0);
    context.lineTo(zeroX, size);
    context.moveTo(0, zeroY);
    context.lineTo(size, zeroY);
    context.stroke();
    this.drawTicks(zeroX, zeroY);
    if (state.model.prior !== "normal") return;
    const centre = this.toCanvas(state.plane.priorCentre());
    const scale = size / 2 / state.extent.half[0];
    context.font = this.font(11);
    context.textAlign = "center";
    for (const deviations of CIRCLES) {
      context.strokeStyle = this.colour("circle");
      context.setLineDash([2, 5]);
      context.beginPath();
      context.arc(...centre, deviations * scale, 0, 2 * Math.PI);
      context.stroke();
      context.setLineDash([]);
      // Not on an axis, where its numbers stand.
      const [right, up] = [0.5, Math.sqrt(0.75)].map((part) => part * deviations * scale);
      this.write(`${deviations}σ`, centre[0] + right, centre[1] - up + 4, "muted");
    }
  }

  drawTicks(zeroX, zeroY) {
    const { context, size, state } = this;
    const { middle, half } = state.extent;
    context.font = this.font(11);
    const inView = (value) => Math.min(size - 6, Math.max(16, value));
    for (const axis of [0, 1]) {
      if (axis === 1 && state.plane.isLine) continue;
      const step = niceStep(half[axis] / 2);
      const first = Math.ceil((middle[axis] - 0.9 * half[axis]) / step);
      for (let n = first; n * step < middle[axis] + 0.9 * half[axis]; n++) {
        if (n === 0) continue;
        const place = this.toCanvas(axis === 0 ? [n * step, 0] : [0, n * step]);
        context.textAlign = axis === 0 ? "center" : "left";
        const [x, y] =
          axis === 0 ? [place[0], inView(zeroY + 14)] : [inView(zeroX + 5), place[1] + 4];
        this.write(atTick(n * step), x, y, "muted");
      }
    }
  }

  drawPoints() {
    const { context, state } = this;
    const count = this.places.length / 2;
    const radius = Math.max(2, Math.min(4, 70 / Math.sqrt(count)));
    const { labels, names } = state.data.examples;
    const groups = labels ? names.map(() => []) : [[]];
    for (let n = 0; n < count; n++) groups[labels ? labels[n] : 0].push(n);
    groups.forEach((group, label) => {
      const isDimmed = this.chosenLabel !== null && label !== this.chosenLabel;
      context.fillStyle = labels ? this.colourOf(label) : this.colour("accent");
      context.globalAlpha = isDimmed ? 0.12 : 0.75;
      context.beginPath();
      for (const n of group) {
        const [x, y] = this.toCanvas(this.placeOf(n));
        context.moveTo(x + radius, y);
        context.arc(x, y, radius, 0, 2 * Math.PI);
      }
      context.fill();
    });
    context.globalAlpha = 1;
  }

  /** Write each label at the middle of its examples: nobody needs to tell colours apart. */
  drawNames() {
    const { names } = this.state.data.examples;
    this.context.font = this.font(17, 700);
    this.context.textAlign = "center";
    this.middles().forEach((middle, label) => {
      const isLeftOut = this.chosenLabel !== null && label !== this.chosenLabel;
      if (this.ranks[label] < 0 || isLeftOut || !middle) return;
      const name = names[label];
      const [x, y] = this.toCanvas(middle);
      this.write(name.length > 14 ? `${name.slice(0, 13)}…` : name, x, y + 6, "ink", 5);
    });
  }

  /** Return the middle of each label's examples in view, [right, up], or null; found once. */
  middles() {
    const { places } = this;
    const { extent } = this.state;
    if (this.middlesOf?.places !== places || this.middlesOf.extent !== extent) {
      const { labels, names } = this.state.data.examples;
      const coordinates = names.map(() => [[], []]);
      labels?.forEach((label, n) => {
        if (!isInView(extent, this.placeOf(n))) return;
        for (const axis of [0, 1]) coordinates[label][axis].push(places[2 * n + axis]);
      });
      this.middlesOf = { places, extent };
      this.foundMiddles = coordinates.map((both) => (both[0].length ? both.map(median) : null));
    }
    return this.foundMiddles;
  }

  /** The posterior of the example that is under the mouse, or else of what was encoded last. */
  drawEllipse() {
    const { context, state } = this;
    const { model } = state;
    if (!model.hasPosterior) return;
    const n = state.hovered ?? state.input.example;
    let posterior = state.encoded;
    if (n !== null) posterior = { code: model.codeOf(n), logVariance: model.logVarianceOf(n) };
    if (!posterior) return;
    const { centre, axes, angle } = state.plane.ellipse(posterior.code, posterior.logVariance);
    const [x, y] = this.toCanvas(centre);
    const scale = this.size / 2 / state.extent.half[0];
    for (const deviations of [1, 2]) {
      const [a, b] = axes.map((axis) => Math.max(1, deviations * axis * scale));
      context.beginPath();
      context.ellipse(x, y, a, state.plane.isLine ? 4 : b, -angle, 0, 2 * Math.PI);
      this.stroke("ink", deviations === 1 ? 1.5 : 0.75);
    }
  }

  drawMorph() {
    const { context, state } = this;
    const [from, to] =
      this.line ?? state.ends.map((end) => end && this.toCanvas(state.plane.project(end.code)));
    if (from && to) {
      context.beginPath();
      context.moveTo(...from);
      context.lineTo(...to);
      this.stroke("ink", 1.5);
    }
    context.font = this.font(13, 700);
    context.textAlign = "center";
    [from, to].forEach((place, n) => {
      if (!place) return;
      context.beginPath();
      context.arc(...place, 3, 0, 2 * Math.PI);
      this.stroke("ink", 3);
      this.write("AB"[n], place[0], place[1] - 9, "ink", 4);
    });
  }

  /** The code that stays, and around a larger ring the one that is shown. */
  drawPoint() {
    const { context, state } = this;
    for (const [code, radius] of [
      [state.anchor, 6],
      [state.code, 9],
    ]) {
      context.beginPath();
      context.arc(...this.toCanvas(state.plane.project(code)), radius, 0, 2 * Math.PI);
      this.stroke("accent", 2);
    }
  }

  /** Draw the path with a rim, so that it is seen on points and pictures. */
  stroke(colour, width) {
    for (const [name, more] of [
      ["paper", 2],
      [colour, 0],
    ]) {
      this.context.strokeStyle = this.colour(name);
      this.context.lineWidth = width + more;
      this.context.stroke();
    }
  }

  font(size, weight = 400) {
    return `${weight} ${size}px ${this.style.fontFamily}`;
  }

  /** Write a text with a halo, so that it is read on points. */
  write(text, x, y, colour, halo = 3) {
    const { context } = this;
    context.lineJoin = "round";
    context.lineWidth = halo;
    context.strokeStyle = this.colour("paper");
    context.strokeText(text, x, y);
    context.fillStyle = this.colour(colour);
    context.fillText(text, x, y);
  }
}

/** Return 1, 2 or 5 times a power of ten, near a size. */
function niceStep(size) {
  const power = 10 ** Math.floor(Math.log10(size));
  return [1, 2, 5, 10].find((step) => step * power >= size * 0.8) * power;
}

function median(values) {
  const sorted = Float32Array.from(values).sort();
  return sorted[sorted.length >> 1];
}
