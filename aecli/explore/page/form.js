// A row of a table: a form that it is typed into, and beside it what the decoder makes of it.

import { columnsOf, entryOf, inUnits, isMissing, MISSING, MOST_BARS, made } from "./pictures.js";

export class Form {
  /** `onTyped` is called with the row after each change of an entry. */
  constructor(state, { form, table }, onTyped) {
    Object.assign(this, { state, table, onTyped });
    const { card } = state.data;
    this.columns = columnsOf(card);
    this.fields = [];
    if (card.shape[0] > MOST_BARS) {
      form.textContent = "Click a point of the map to choose a row.";
      return;
    }
    this.fields = this.columns.map((column) => {
      const field = fieldOf(column);
      const event = column.categories.length ? "change" : "input";
      field.addEventListener(event, () => this.take(column, field));
      form.append(made("label", {}, made("span", { text: column.name }), field));
      return field;
    });
  }

  /** Take the entry that was changed; all others stay as they are, missing ones missing. */
  take(column, field) {
    const x = Float32Array.from(this.state.input.x);
    x.fill(0, column.at, column.at + column.width);
    let isThere = true;
    if (column.categories.length) {
      isThere = field.value !== "";
      if (isThere) x[column.at + Number(field.value)] = 1;
    } else {
      // Without a number there is none; where a table has no missing entries, 0 is the mean.
      isThere = Number.isFinite(field.valueAsNumber);
      if (isThere) x[column.at] = (field.valueAsNumber - column.shift) / column.scale;
    }
    if (column.mask !== null) x[column.mask] = isThere ? 1 : 0;
    this.onTyped(x);
  }

  /** Show the entries of a row in the form, but for one that is being typed. */
  fill(x) {
    this.fields.forEach((field, n) => {
      if (field === document.activeElement) return;
      const column = this.columns[n];
      if (isMissing(column, x)) field.value = "";
      else if (column.categories.length) {
        field.value = x.subarray(column.at, column.at + column.width).indexOf(1);
      } else field.value = Number((x[column.at] * column.scale + column.shift).toPrecision(6));
    });
  }

  /** Show a row, what the encoder sees of it where that is another one, and the output. */
  show(x, seen, mean) {
    const head = ["", "input", ...(seen ? ["with noise"] : []), "output"];
    const rows = this.columns.slice(0, MOST_BARS).map((column) => {
      const given = (seen ? [x, seen] : [x]).map((row) => entryOf(column, row));
      return made(
        "tr",
        {},
        made("th", { scope: "row", text: column.name }),
        ...[...given, inUnits(column, mean)].map((text) => made("td", { text })),
      );
    });
    this.table.replaceChildren(
      made("thead", {}, made("tr", {}, ...head.map((text) => made("th", { scope: "col", text })))),
      made("tbody", {}, ...rows),
    );
  }
}

/** Return the field of a column; its value is "" of a missing entry. */
function fieldOf({ categories, mask }) {
  const canBeMissing = mask !== null;
  if (!categories.length) {
    const placeholder = canBeMissing ? MISSING : "";
    return made("input", { type: "number", step: "any", placeholder });
  }
  const options = categories.map((text, value) => made("option", { value, text }));
  if (canBeMissing) options.unshift(made("option", { value: "", text: MISSING }));
  return made("select", {}, ...options);
}
