// Where one is, in the page's address: so that a link leads there.

/** What may stand in an address for a whole number: no sign, no exponent. */
const WHOLE_NUMBER = /^\d{1,9}$/;

export class Link {
  constructor(state) {
    this.state = state;
    globalThis.addEventListener("hashchange", () => this.follow());
    this.follow();
  }

  /** Go where the address says; what it says of nothing that is here is passed over. */
  follow() {
    const { state } = this;
    const words = new URLSearchParams(location.hash.slice(1));
    const number = (name, end) => {
      const text = words.get(name) ?? "";
      return WHOLE_NUMBER.test(text) && Number(text) < end ? Number(text) : null;
    };
    const run = number("run", state.models.length);
    if (run !== null) state.chooseModel(run);
    const { units } = state.model;
    const [across, up] = [number("across", units), number("up", units)];
    if (across !== null && up !== null && across !== up) {
      state.choosePlane({ kind: "units", across, up });
    } else if (!words.has("across")) state.choosePlane({ kind: "components" });
    const example = number("example", state.data.examples.count);
    if (example !== null && example !== state.input.example) state.chooseExample(example);
  }

  update(changes) {
    if (!changes.has("model") && !changes.has("plane") && !changes.has("input")) return;
    const { state } = this;
    const { kind, across, up } = state.choice;
    const words = new URLSearchParams();
    if (state.models.length > 1) words.set("run", state.number);
    if (kind === "units" && !state.plane.isLine) {
      words.set("across", across);
      words.set("up", up);
    }
    words.set("example", state.example);
    // A step of its own in the browser's history would be one for each click.
    if (location.hash !== `#${words}`) history.replaceState(null, "", `#${words}`);
  }
}
