// Examples made visible: images as pixels, rows as bars.

import { greatest } from "./network.js";

/** Stops from no error to the largest: dark to light in equal steps, whatever colours one sees. */
const HEAT = [
  [0, 0, 4],
  [59, 15, 112],
  [140, 41, 129],
  [222, 73, 104],
  [254, 159, 109],
  [252, 253, 191],
];
/** Negative, nothing, positive. */
const SIGNED = [
  [0, 92, 171],
  [247, 247, 245],
  [201, 84, 0],
];

function between(stops, share) {
  const place = Math.min(1, Math.max(0, share)) * (stops.length - 1);
  const n = Math.min(stops.length - 2, Math.floor(place));
  return stops[n].map((a, c) => a + (place - n) * (stops[n + 1][c] - a));
}

function paintPixels(canvas, height, width, colour) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let n = 0; n < height * width; n++) image.data.set([...colour(n), 255], 4 * n);
  context.putImageData(image, 0, 0);
}

/** Paint an image (C, H, W): grey, RGB, RGBA over white; of other channels their mean. */
export function paintImage(canvas, x, [channels, height, width], [low, high]) {
  const pixels = height * width;
  const value = (c, n) => (255 * (x[c * pixels + n] - low)) / (high - low);
  paintPixels(canvas, height, width, (n) => {
    if (channels === 3) return [value(0, n), value(1, n), value(2, n)];
    if (channels === 4) {
      const opacity = Math.min(1, Math.max(0, value(3, n) / 255));
      return [0, 1, 2].map((c) => value(c, n) * opacity + 255 * (1 - opacity));
    }
    let sum = 0;
    for (let c = 0; c < channels; c++) sum += value(c, n);
    return [sum / channels, sum / channels, sum / channels];
  });
}

/** Paint |error| of each pixel, the root of the mean over the channels; 1 is the range of x. */
export function paintErrors(canvas, squares, [channels, height, width]) {
  const pixels = height * width;
  paintPixels(canvas, height, width, (n) => {
    let sum = 0;
    for (let c = 0; c < channels; c++) sum += squares[c * pixels + n];
    return between(HEAT, Math.sqrt(sum / channels));
  });
}

/** Paint numbers with a sign: 0 is light, `most` is the darkest of both colours. */
export function paintSigned(canvas, x, [channels, height, width], most) {
  const pixels = height * width;
  paintPixels(canvas, height, width, (n) => {
    let sum = 0;
    for (let c = 0; c < channels; c++) sum += x[c * pixels + n];
    return between(SIGNED, 0.5 + (0.5 * sum) / channels / most);
  });
}

/** Make an element. */
export function made(name, { text, ...properties } = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in element) element[key] = value;
    else element.setAttribute(key, value);
  }
  if (text !== undefined) element.textContent = text;
  element.append(...children);
  return element;
}

/** Put elements in place of those that a host has; as many as a call takes no arguments, too. */
export function filled(host, elements) {
  const fragment = document.createDocumentFragment();
  for (const element of elements) fragment.append(element);
  host.replaceChildren(fragment);
}

/** Return a number with the digits that one looks at. */
export function short(value) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1e6 || (size > 0 && size < 1e-4)) return value.toExponential(1).replace("-", "−");
  const isSmall = size > 0 && size < 0.1;
  const digits = isSmall ? 4 : size >= 100 ? 0 : size >= 10 ? 1 : 2;
  return value.toFixed(digits).replace("-", "−");
}

/** Return the value at a tick: all digits that tell it from the next, none of rounding errors. */
export function atTick(value) {
  const exact = Number(value.toPrecision(12));
  const size = Math.abs(exact);
  const text = size >= 1e6 || size < 1e-4 ? exact.toExponential() : String(exact);
  return text.replace("e+", "e").replaceAll("-", "−");
}

/** Return a coordinate of a code: two decimals, so that a column of them stays in place. */
export function coordinate(value) {
  return Math.abs(value) < 1000 ? value.toFixed(2).replace("-", "−") : short(value);
}

export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** Columns of a row that have a bar of their own; of more, all stand in one drawing. */
export const MOST_BARS = 60;

/** What stands for an entry that a table's row lacks. */
export const MISSING = "missing";

/**
 * The columns of a row: where each starts among its numbers, and how many these are; and where the
 * row says whether the entry is there, or null.
 */
export function columnsOf(card) {
  let at = 0;
  return card.columns.map((column, n) => {
    const width = Math.max(1, column.categories.length);
    at += width;
    return { ...column, at: at - width, width, mask: card.mask === null ? null : card.mask + n };
  });
}

/** Return whether a row lacks the entry of a column. */
export function isMissing({ mask }, x) {
  return mask !== null && x[mask] === 0;
}

/** Return what a column of a given row says, in the user's units. */
export function entryOf(column, x) {
  return isMissing(column, x) ? MISSING : inUnits(column, x);
}

/** Return what a column of a row says, in the user's units, as if its entry were there. */
export function inUnits(column, x) {
  if (column.width > 1 || column.categories.length) {
    const values = x.subarray(column.at, column.at + column.width);
    const most = values.indexOf(greatest(values));
    if (values[most] === 0) return "none"; // masked, or one that the training split has not
    const name = column.categories[most];
    return values[most] > 0.995 ? name : `${name} ${Math.round(100 * values[most])} %`;
  }
  const value = x[column.at] * column.scale + column.shift;
  return column.kind === "integer" ? String(Math.round(value)).replace("-", "−") : short(value);
}

/**
 * Show a row as bars from its middle, the mean of the training split, with a tick for `beside`, a
 * row that it is compared with. The bars are made once, then moved.
 */
export class Bars {
  constructor(host, card, [low, high]) {
    this.columns = columnsOf(card);
    this.size = card.shape[0];
    this.low = Math.min(low, 0);
    this.high = Math.max(high, 0, this.low + 1e-6);
    this.isLong = this.size > MOST_BARS;
    if (this.isLong) {
      this.canvas = made("canvas", { className: "spectrum", width: 560, height: 220 });
      host.replaceChildren(this.canvas);
      return;
    }
    this.parts = this.columns.map((column) => {
      const bar = made("i", { className: "bar" });
      const tick = made("i", { className: "tick" });
      const value = made("output", {});
      const track = made("span", { className: "track" }, bar, tick);
      const name = made("span", { className: "name", text: column.name, title: column.name });
      return { bar, tick, value, row: made("li", {}, name, track, value) };
    });
    host.replaceChildren(made("ul", { className: "bars" }, ...this.parts.map((part) => part.row)));
  }

  share(value) {
    return (
      (100 * (Math.min(this.high, Math.max(this.low, value)) - this.low)) / (this.high - this.low)
    );
  }

  show(x, beside = null) {
    if (this.isLong) {
      this.draw(x, beside);
      return;
    }
    this.columns.forEach((column, n) => {
      const { bar, tick, value } = this.parts[n];
      const isText = column.categories.length > 0;
      const amount = isText
        ? greatest(x.subarray(column.at, column.at + column.width))
        : x[column.at];
      const zero = isText ? 0 : this.share(0);
      const end = isText ? 100 * Math.min(1, Math.max(0, amount)) : this.share(amount);
      bar.style.left = `${Math.min(zero, end)}%`;
      bar.style.width = `${Math.max(0.6, Math.abs(end - zero))}%`;
      tick.hidden = beside === null || isText || isMissing(column, beside);
      if (!tick.hidden) tick.style.left = `${this.share(beside[column.at])}%`;
      const told = inUnits(column, x);
      const isTold = beside && (isText || isMissing(column, beside));
      value.textContent = isTold ? `${told} (${entryOf(column, beside)})` : told;
    });
  }

  draw(x, beside) {
    const context = this.canvas.getContext("2d");
    const { width, height } = this.canvas;
    const style = getComputedStyle(this.canvas);
    const y = (value) => height * (1 - this.share(value) / 100);
    context.clearRect(0, 0, width, height);
    context.fillStyle = style.getPropertyValue("--accent");
    for (let n = 0; n < this.size; n++) {
      const [top, bottom] = [y(x[n]), y(0)].sort((a, b) => a - b);
      context.fillRect(
        (n * width) / this.size,
        top,
        Math.max(1, width / this.size - 1),
        bottom - top || 1,
      );
    }
    if (beside) {
      context.fillStyle = style.getPropertyValue("--ink");
      const isThere = new Uint8Array(this.size).fill(1);
      for (const column of this.columns) {
        if (isMissing(column, beside)) isThere.fill(0, column.at, column.at + column.width);
      }
      for (let n = 0; n < this.size; n++) {
        if (!isThere[n]) continue;
        context.fillRect(
          (n * width) / this.size,
          y(beside[n]) - 1,
          Math.max(1, width / this.size - 1),
          2,
        );
      }
    }
  }
}
