// The page of `aecli compare --output`: sorts and filters the table, draws the curves, and shows
// their values. Foreign strings reach the page by textContent alone.
"use strict";

const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"]; // Okabe & Ito
const DASHES = ["", "7 3", "2 3"]; // after each round of the colours
const table = document.getElementById("runs");
const body = table.tBodies[0];

// Sorting: a click on a head; once more turns the order round.

function sortKey(row, column) {
  const cell = row.cells[column];
  return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
}

// Numbers before texts, which "–" for a missing value is: it stays at the end in both orders.
function compare(a, b, sign) {
  const numbers = (typeof a === "number") - (typeof b === "number");
  if (numbers) return -numbers;
  return sign * (typeof a === "number" ? a - b : a.localeCompare(b));
}

function sortBy(head) {
  const heads = [...head.parentNode.cells];
  const descending = head.getAttribute("aria-sort") === "ascending";
  for (const other of heads) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const column = heads.indexOf(head);
  const rows = [...body.rows].map((row) => [sortKey(row, column), row]);
  rows.sort(([a], [b]) => compare(a, b, descending ? -1 : 1));
  body.append(...rows.map(([, row]) => row));
}

for (const head of table.tHead.rows[0].cells) {
  head.firstElementChild.addEventListener("click", () => sortBy(head));
}

// Filtering: every word must be in the row. KEY=VALUE must be one of its settings; KEY<NUMBER, or
// with <=, > or >=, must be true of a column or a setting.

const filter = document.getElementById("filter");
const hidden = new Set(); // the numbers of the groups that are not shown

// Of KEY=VALUE the key and the value as a number; none of another word.
function numberIn(word) {
  const [key, value, ...more] = word.split("=");
  return more.length || !value ? [key, NaN] : [key, Number(value)];
}

// Whether a setting is the one that was typed: 2, 2.0 and 2e0 are one number.
function isSame(setting, word) {
  const [[key, value], [typed, number]] = [setting, word].map(numberIn);
  return setting === word || (key === typed && value === number);
}

const COMPARISON = /^([^<>=]+)(<=|>=|<|>)([^<>=]+)$/;
const SIGNS = {
  "<": (a, b) => a < b,
  "<=": (a, b) => a <= b,
  ">": (a, b) => a > b,
  ">=": (a, b) => a >= b,
};
const names = [...table.tHead.rows[0].cells].map((head) =>
  head.textContent.toLowerCase().replace(/\*$/, ""), // of a metric with several meanings
);

// Whether a typed word, if it is a comparison, is true of a row; null if it is none.
function holds(row, settings, word) {
  const [, key, sign, bound] = COMPARISON.exec(word) ?? [];
  if (!key || Number.isNaN(Number(bound))) return null;
  const values = settings.map(numberIn).filter(([name]) => name === key);
  const cell = row.cells[names.indexOf(key)];
  return SIGNS[sign](Number(cell?.dataset.value ?? values[0]?.[1] ?? NaN), Number(bound));
}

function matches(row, asked) {
  const settings = row.dataset.settings.toLowerCase().split("\n");
  const text = row.textContent.toLowerCase();
  const has = (word) => holds(row, settings, word) ?? (settings.some((one) => isSame(one, word)) ||
    (!word.includes("=") && (text.includes(word) || settings.some((one) => one.includes(word)))));
  return settings.includes(asked) || asked.split(/\s+/).every(has);
}

function applyFilter() {
  const asked = filter.value.trim().toLowerCase();
  hidden.clear();
  for (const row of body.rows) {
    row.hidden = asked !== "" && !matches(row, asked);
    if (row.hidden) hidden.add(Number(row.dataset.group));
  }
  const rows = body.rows.length;
  document.getElementById("count").textContent = `${rows - hidden.size} of ${rows} rows`;
  for (const figure of document.querySelectorAll("figure")) {
    figure.hidden = hidden.has(Number(figure.dataset.group));
  }
  if (chart) draw();
}

filter.addEventListener("input", applyFilter);
for (const button of document.querySelectorAll("[data-filter]")) {
  button.addEventListener("click", () => {
    filter.value = button.dataset.filter;
    applyFilter();
    filter.focus();
  });
}

// Curves: one metric over the epochs, a line for each run.

const chart = document.getElementById("chart");
const select = document.getElementById("metric");
const logarithmic = document.getElementById("logarithmic");
const data = chart && JSON.parse(document.getElementById("data").textContent);
const HEIGHT = 360, LEFT = 62, RIGHT = 12, TOP = 10, BOTTOM = 38;
let scale = null; // of the curves that are drawn: lines, epochs, x and y
let at = null; // the epoch under the cursor

function element(name, attributes, parent) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  parent.append(made);
  return made;
}

function look(line) {
  const round = Math.floor(line.group / COLOURS.length) % DASHES.length;
  return { stroke: COLOURS[line.group % COLOURS.length], "stroke-dasharray": DASHES[round] };
}

// Round numbers between two ends: 1, 2 or 5 times a power of ten apart.
function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const found = [];
  for (let n = Math.ceil(low / step); n * step <= high + step * 1e-6; n++) found.push(n * step);
  return found;
}

// Of a logarithmic axis: powers of ten, and 2 and 5 times these where there are few powers. Where
// there would be one at most, as of a linear axis.
function logTicks(low, high) {
  const powers = [];
  for (let n = Math.floor(Math.log10(low)); 10 ** n <= high * (1 + 1e-6); n++) powers.push(10 ** n);
  const each = powers.length > 3 ? [1] : [1, 2, 5];
  const found = powers
    .filter((_, n) => n % Math.ceil(powers.length / 8) === 0)
    .flatMap((power) => each.map((factor) => factor * power))
    .filter((value) => value >= low * (1 - 1e-6) && value <= high * (1 + 1e-6));
  return found.length > 1 ? found : ticks(low, high, 5);
}

function shown(value) {
  return String(Number(value.toPrecision(4)));
}

function draw() {
  const name = select.value;
  const lines = data.lines.filter((line) => !hidden.has(line.group) && line.metrics[name]);
  chart.replaceChildren();
  document.getElementById("values").replaceChildren();
  scale = null;
  if (!lines.length) return;
  const width = chart.clientWidth;
  chart.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  const points = lines.flatMap((line) => line.metrics[name]);
  const ends = [0, 1].map((part) => {
    const values = points.map((point) => point[part]);
    const low = values.reduce((a, b) => Math.min(a, b));
    const high = values.reduce((a, b) => Math.max(a, b));
    return low < high ? [low, high] : [low - 0.5, high + 0.5];
  });
  const [[first, last], [low, high]] = ends;
  // Ends of one value alone are widened, maybe below zero.
  logarithmic.disabled = !(low > 0);
  const isLog = logarithmic.checked && !logarithmic.disabled;
  const place = isLog ? Math.log10 : Number;
  const x = (epoch) => LEFT + ((epoch - first) / (last - first)) * (width - LEFT - RIGHT);
  const height = HEIGHT - TOP - BOTTOM;
  const y = (value) => TOP + ((place(high) - place(value)) / (place(high) - place(low))) * height;
  for (const value of isLog ? logTicks(low, high) : ticks(low, high, 5)) {
    element("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }, chart);
    element("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, chart).textContent =
      shown(value);
  }
  for (const epoch of ticks(first, last, width / 90).filter(Number.isInteger)) {
    element("text", { x: x(epoch), y: HEIGHT - 20, "text-anchor": "middle" }, chart).textContent =
      shown(epoch);
  }
  element("text", { x: (LEFT + width) / 2, y: HEIGHT - 4, "text-anchor": "middle" }, chart)
    .textContent = `${name}${data.units[name] && ` (${data.units[name]})`} over epochs`;
  for (const line of lines) {
    const path = line.metrics[name].map(([epoch, value]) => `${x(epoch)},${y(value)}`);
    element("path", { ...look(line), d: `M${path.join("L")}` }, chart);
    if (path.length === 1) {
      const [cx, cy] = path[0].split(",");
      element("circle", { cx, cy, r: 3, fill: look(line).stroke }, chart);
    }
  }
  const cursor = element("line", { class: "cursor", y1: TOP, y2: HEIGHT - BOTTOM }, chart);
  const epochs = [...new Set(points.map((point) => point[0]))].sort((a, b) => a - b);
  scale = { lines, epochs, x, cursor, name };
  show(epochs.includes(at) ? at : epochs.at(-1));
}

// The values of all lines at an epoch, below the chart: the legend, too. A line that has none there
// says its last one before, and of which epoch that is.
function show(epoch) {
  if (!scale) return;
  at = epoch;
  for (const key of ["x1", "x2"]) scale.cursor.setAttribute(key, scale.x(epoch));
  const spans = scale.lines.map((line) => {
    const span = document.createElement("span");
    const sign = element("svg", { viewBox: "0 0 28 10", "aria-hidden": "true" }, span);
    element("path", { ...look(line), d: "M0,5H28", "stroke-width": 2.5 }, sign);
    const point = line.metrics[scale.name].findLast(([place]) => place <= epoch);
    const when = point && point[0] !== epoch ? ` (epoch ${shown(point[0])})` : "";
    span.append(`${line.name}: ${point ? shown(point[1]) : "–"}${when}`);
    return span;
  });
  const head = document.createElement("strong");
  head.textContent = `epoch ${shown(epoch)}`;
  document.getElementById("values").replaceChildren(head, ...spans);
}

function nearest(event) {
  if (!scale) return;
  const place = event.clientX - chart.getBoundingClientRect().left;
  const off = (epoch) => Math.abs(scale.x(epoch) - place);
  show(scale.epochs.reduce((best, epoch) => (off(epoch) < off(best) ? epoch : best)));
}

function step(event) {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!by || !scale) return;
  event.preventDefault();
  const place = scale.epochs.indexOf(at) + by;
  show(scale.epochs[Math.min(Math.max(place, 0), scale.epochs.length - 1)]);
}

if (chart) {
  for (const name of data.names) select.add(new Option(name, name, false, name === data.metric));
  for (const control of [select, logarithmic]) control.addEventListener("change", draw);
  chart.addEventListener("pointermove", nearest);
  chart.addEventListener("pointerdown", nearest);
  chart.addEventListener("keydown", step);
  new ResizeObserver(draw).observe(chart);
}
applyFilter();
