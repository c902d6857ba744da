// The page: read the data, make the model, wire the views.

import { inflated, withArrays } from "./blob.js";
import { Decoded } from "./decoded.js";
import { Find } from "./find.js";
import { Input } from "./input.js";
import { Link } from "./link.js";
import { CodeMap } from "./map.js";
import { Model } from "./model.js";
import { Morph } from "./morph.js";
import { Painting } from "./painting.js";
import { filled, made, short } from "./pictures.js";
import { State } from "./state.js";
import { Sum } from "./sum.js";
import { Sweep } from "./sweep.js";
import { Tabs } from "./tabs.js";
import { Units } from "./units.js";

const id = (name) => document.getElementById(name);
const ids = (...names) => Object.fromEntries(names.map((name) => [name, id(name)]));

async function main() {
  if (!globalThis.DecompressionStream || !id("map").getContext?.("2d")) {
    id("notice").textContent =
      "This page needs a browser with canvas and DecompressionStream: any of 2023 or newer.";
    return;
  }
  const bytes = await inflated(id("arrays").textContent);
  const data = withArrays(JSON.parse(id("data").textContent), bytes);
  const state = new State(
    data,
    data.models.map((model) => new Model(model)),
  );
  const link = new Link(state);
  describe(state);
  const live = id("live");
  const map = new CodeMap(state, {
    canvas: id("map"),
    ...ids("tip", "legend", "closer", "farther", "whole"),
  });
  new Find(state, { form: id("find"), field: id("asked"), told: id("found") });
  const parts = { picture: id("picture"), beside: id("beside"), told: id("told"), live };
  state.views.push(map, new Decoded(state, parts));
  const { tabs, morph } = views(state, map);
  planeChoice(state);
  if (state.models.length > 1) {
    id("sweep").hidden = false;
    const sweep = { slider: id("sweep-slider"), name: id("sweep-name") };
    state.views.push(
      new Sweep(state, { ...sweep, value: id("sweep-value"), table: id("sweep-table") }),
    );
  }
  map.onDragged = () => {
    if (!morph) return;
    tabs.open(id("tab-morph"));
    morph.go();
  };
  const foot = { update: (changes) => changes.has("model") && describeModel(state) };
  state.views.push(foot, link);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => map.draw());
  state.tell("plane", "code", "input");
  state.update();
  id("notice").remove();
  document.body.classList.add("is-ready");
  // For the console, and for tests: explore.state.model.decode([0, 0]).
  globalThis.explore = { state, map, started: performance.now() };
}

/** Make the panels that fit the model; return their tabs, and that of the morph if it is there. */
function views(state, map) {
  const { model, data, isImage } = state;
  const computes = state.models.every((other) => other.computes);
  const hasSum = computes && isImage && state.models.every((other) => other.sum);
  id("tab-input").textContent = isImage ? (data.card.shape[0] === 1 ? "Draw" : "Picture") : "Row";
  id("tab-units").hidden = !computes;
  id("tab-input").hidden = !computes;
  id("tab-morph").hidden = !computes;
  id("tab-sum").hidden = !hasSum;
  id("tabs").hidden = !computes;
  id("grid-note").hidden = computes;
  id("painting-choice").hidden = !isImage;
  id("of-image").hidden = !isImage;
  id("of-row").hidden = isImage;
  id("morph-pictures").hidden = !isImage;
  if (isImage) state.views.push(new Painting(state, map, id("painting")));
  if (!computes) {
    id("panels").hidden = true;
    const grid = model.grid ?? state.models.find((other) => other.grid).grid;
    id("grid-note").textContent =
      `This page does not hold the network itself but ${grid.columns} × ${grid.rows} decodings made beforehand: the picture is the nearest of them, and of an example its own reconstruction.`;
    return { tabs: new Tabs(id("tabs")), morph: null };
  }
  const morph = new Morph(state, {
    ...ids("share", "random", "strip", "pixels", "pixelsFigure", "path", "formula"),
    here: [id("here-a"), id("here-b")],
    names: [id("name-a"), id("name-b")],
  });
  state.views.push(
    new Input(state, {
      ...ids("pen", "clear", "file", "centred", "clean", "seen", "seenFigure", "output", "errors"),
      ...ids("form", "table", "noise", "level", "amount", "kind", "again"),
      told: id("input-told"),
    }),
    new Units(state, {
      list: id("units"),
      told: id("units-told"),
      ...ids("more", "middle", "drawn"),
    }),
    morph,
  );
  if (hasSum)
    state.views.push(new Sum(state, { ...ids("count", "number", "terms"), told: id("sum-told") }));
  return { tabs: new Tabs(id("tabs")), morph };
}

/** Say at the top what this is. */
function describe(state) {
  const { data, model } = state;
  const size = data.card.shape.reduce((a, b) => a * b, 1).toLocaleString("en");
  const what = state.isImage ? `${size} pixel values` : `${size} numbers`;
  id("title").textContent = data.title;
  document.title = `${data.title} · aecli explore`;
  const isSame = state.models.every((other) => other.units === model.units);
  const code = isSame ? numbers(model.units) : "a few numbers";
  id("lead").textContent =
    `An autoencoder turns each example, ${what}, into a code of ${code}, and makes the example again from the code alone. This page holds ${state.models.length === 1 ? "one that was trained" : `${state.models.length} that were trained`} on ${data.dataset}.`;
  describeModel(state);
}

/** Say below the map and at the end what is so of the model that is shown. */
function describeModel(state) {
  const { data, model } = state;
  const { count, of, split } = data.examples;
  const shown = `${count.toLocaleString("en")} of ${of.toLocaleString("en")} ${split} examples`;
  id("map-told").textContent = `Each dot is one of ${shown}, at its code.${
    model.prior === "normal"
      ? " The circles are the prior, at 1, 2 and 3 standard deviations; the ellipse is where the encoder believes the code of an example to be, at 1 and 2."
      : ""
  }`;
  const setting = data.keys.length === 1 ? `${data.keys[0]} = ${model.label}` : model.label;
  const which = state.models.length > 1 ? `${setting}: ` : "";
  id("foot").textContent =
    `${data.run} · aecli ${data.version} · ${which}squared error ${short(model.figures.mse)} per feature on the ${split} split`;
}

const numbers = (count) => (count === 1 ? "one number" : `${count.toLocaleString("en")} numbers`);

/** Let one choose what the map's two directions are. */
function planeChoice(state) {
  const [kind, across, up] = [id("plane"), id("across"), id("up")];
  const fill = () => {
    const { model } = state;
    for (const select of [across, up]) {
      const options = model.order.map((unit) => {
        const carried = `${short(model.carried[unit])}${model.kl ? " nats" : ""}`;
        return made("option", { value: unit, text: `unit ${unit} (${carried})` });
      });
      filled(select, options);
    }
    id("plane-choice").hidden = model.units === 1 || Boolean(model.grid);
    kind.parentElement.hidden = model.units <= 2;
    show();
  };
  const show = () => {
    const { choice } = state;
    kind.value = choice.kind;
    across.value = choice.across;
    up.value = choice.up;
    id("units-choice").hidden = choice.kind !== "units";
    id("axis-across").textContent = state.plane.names[0];
    id("axis-up").textContent = state.plane.names[1];
  };
  kind.addEventListener("change", () => state.choosePlane({ kind: kind.value }));
  across.addEventListener("change", () => state.choosePlane({ across: Number(across.value) }));
  up.addEventListener("change", () => state.choosePlane({ up: Number(up.value) }));
  fill();
  state.views.push({
    update(changes) {
      if (changes.has("model")) fill();
      else if (changes.has("plane")) show();
    },
  });
}

main().catch((error) => {
  id("notice").textContent = `This page could not start: ${error}`;
  throw error; // for the console
});
