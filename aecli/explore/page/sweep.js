// Several runs in one page: a slider from model to model.

import { made, short } from "./pictures.js";

export class Sweep {
  constructor(state, { slider, name, value, table }) {
    Object.assign(this, { state, slider, name, value, place: table.parentElement });
    const { keys } = state.data;
    const { models } = state;
    name.textContent = keys.length === 1 ? `${keys[0]} =` : "Settings:";
    slider.max = models.length - 1;
    slider.addEventListener("input", () => {
      state.chooseModel(slider.valueAsNumber);
    });
    const first = keys.length === 1 ? keys[0] : "settings";
    const head = [first, "code units in use", "KL, nats", "squared error per feature"];
    this.rows = models.map(({ label, units, figures }, number) => {
      const cells = [
        `${figures.active} of ${units}`,
        figures.kl === null ? "–" : short(figures.kl),
        short(figures.mse),
      ];
      const button = made("button", { type: "button", text: label });
      button.addEventListener("click", () => {
        state.chooseModel(number);
      });
      return made(
        "tr",
        {},
        made("th", { scope: "row" }, button),
        ...cells.map((text) => made("td", { text })),
      );
    });
    table.append(
      made("thead", {}, made("tr", {}, ...head.map((text) => made("th", { scope: "col", text })))),
      made("tbody", {}, ...this.rows),
    );
    this.show();
  }

  show() {
    const { number, model } = this.state;
    this.slider.value = number;
    this.value.textContent = model.label;
    this.slider.setAttribute(
      "aria-valuetext",
      `${this.name.textContent} ${this.value.textContent}`,
    );
    this.rows.forEach((row, n) => {
      if (n === number) row.setAttribute("aria-current", "true");
      else row.removeAttribute("aria-current");
    });
    // In sight, where the table is longer than its place; the page itself stays where it is.
    this.place.scrollTop = this.rows[number].offsetTop - this.place.clientHeight / 2;
  }

  update(changes) {
    if (changes.has("model")) this.show();
  }
}
