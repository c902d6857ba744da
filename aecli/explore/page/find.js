// Finds examples by number or label, or else by a part of their names.

import { including } from "./view.js";

export class Find {
  constructor(state, { form, field, told }) {
    Object.assign(this, { state, field, told });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.next();
    });
  }

  /** Choose the next of the examples that were asked for; after the last one, the first. */
  next() {
    const { state, field, told } = this;
    const asked = field.value.trim();
    if (!asked) return;
    const found = this.matches(asked.toLowerCase());
    if (found.length === 0) {
      told.textContent = `no example here has “${asked}” as its number, its label or in its name`;
      return;
    }
    const place = Math.max(
      0,
      found.findIndex((n) => n > state.example),
    );
    state.chooseExample(found[place]);
    state.look(including(state.extent, state.whole, state.plane.project(state.anchor)));
    told.textContent = `${state.nameOf(found[place])}: ${place + 1} of ${found.length}`;
  }

  matches(asked) {
    const { state } = this;
    const { count, ids } = state.data.examples;
    const all = Array.from({ length: count }, (_, n) => n);
    const words = (n) => [String(ids[n]), state.labelOf(n) ?? ""].map((word) => word.toLowerCase());
    const found = all.filter((n) => words(n).includes(asked));
    return found.length ? found : all.filter((n) => state.nameOf(n).toLowerCase().includes(asked));
  }
}
