// The plane of the map: two directions in the space of codes, and how points lie on it.

/** The prior's circles, and the room around them, in standard deviations. */
export const CIRCLES = [1, 2, 3];
const ROOM = 3.1;

export class Plane {
  /**
   * `kind` is "components", or "units" with the numbers of two units, `across` and `up`. A code of
   * one unit has no second direction: its points are spread upwards so that they can be seen.
   */
  constructor(model, { kind, across, up }) {
    this.model = model;
    this.kind = kind;
    const { units } = model;
    this.isLine = units === 1;
    if (kind === "components" && !this.isLine) {
      const { components, mean } = model;
      this.directions = [components.subarray(0, units), components.subarray(units, 2 * units)];
      this.origin = this.directions.map((d) => dot(d, mean));
      this.names = [0, 1].map((n) => {
        const share = Math.round(100 * model.explained[n]);
        return `principal component ${n + 1} (${share} % of the variance)`;
      });
    } else {
      const numbers = this.isLine ? [0] : [across, up];
      this.directions = numbers.map((number) => {
        const direction = new Float32Array(units);
        direction[number] = 1;
        return direction;
      });
      this.origin = numbers.map(() => 0);
      this.names = this.isLine ? ["unit 0", ""] : numbers.map((number) => `unit ${number}`);
    }
  }

  /** Return where a code lies, [right, up]. */
  project(z) {
    const place = this.directions.map((d, n) => dot(d, z) - this.origin[n]);
    return this.isLine ? [place[0], 0] : place;
  }

  /** Return the code that lies at a place and is as `z` in every other direction. */
  moved(z, place) {
    const now = this.project(z);
    const found = Float32Array.from(z);
    this.directions.forEach((direction, n) => {
      for (let k = 0; k < found.length; k++) found[k] += (place[n] - now[n]) * direction[k];
    });
    return found;
  }

  /** Return the places of all examples, flat: right, up, right, up, … */
  places() {
    const { codes, units } = this.model;
    const count = codes.length / units;
    const found = new Float32Array(2 * count);
    for (let n = 0; n < count; n++) {
      const place = this.project(codes.subarray(n * units, (n + 1) * units));
      // Of one unit: the golden ratio spreads neighbours apart.
      if (this.isLine) place[1] = ((n * 0.618034) % 1) - 0.5;
      found.set(place, 2 * n);
    }
    return found;
  }

  /**
   * Return the ellipse of one standard deviation of N(mean, diag exp(logVariance)) on the plane:
   * its centre, its half axes, and the angle of the first, counterclockwise.
   */
  ellipse(mean, logVariance) {
    const [a, b] = this.isLine ? [this.directions[0], this.directions[0]] : this.directions;
    const covariance = (u, v) =>
      u.reduce((sum, _, k) => sum + u[k] * v[k] * Math.exp(logVariance[k]), 0);
    const [xx, xy, yy] = [covariance(a, a), covariance(a, b), covariance(b, b)];
    const middle = (xx + yy) / 2;
    const spread = Math.hypot((xx - yy) / 2, xy);
    return {
      centre: this.project(mean),
      axes: [Math.sqrt(middle + spread), Math.sqrt(Math.max(0, middle - spread))],
      angle: 0.5 * Math.atan2(2 * xy, xx - yy),
    };
  }

  /** Return where the prior's mean, the code of zeros, lies. */
  priorCentre() {
    return this.origin.map((o) => -o).concat(this.isLine ? [0] : []);
  }

  /**
   * Return the part of the plane that is shown: middle and half widths. Places of `others` are in
   * it, too. Both directions have one scale where circles and ellipses are drawn.
   */
  extent(others = []) {
    const { model } = this;
    let [left, right, bottom, top] = bounds(this.places());
    for (const plane of others) {
      const [l, r, b, t] = bounds(plane.places());
      [left, right] = [Math.min(left, l), Math.max(right, r)];
      [bottom, top] = [Math.min(bottom, b), Math.max(top, t)];
    }
    if (model.prior === "normal") {
      const [x, y] = this.priorCentre();
      [left, right] = [Math.min(left, x - ROOM), Math.max(right, x + ROOM)];
      [bottom, top] = [Math.min(bottom, y - ROOM), Math.max(top, y + ROOM)];
    } else if (this.isLine) {
      [bottom, top] = [-1, 1];
    }
    const found = frame(left, right, bottom, top);
    if (model.hasPosterior || this.kind === "components") found.half.fill(Math.max(...found.half));
    return found;
  }
}

function frame(left, right, bottom, top) {
  const room = (low, high) => Math.max(0.54 * (high - low), 1e-6 * Math.max(1, Math.abs(high)));
  return {
    middle: [(left + right) / 2, (bottom + top) / 2],
    half: [room(left, right), room(bottom, top)],
  };
}

function bounds(places) {
  const found = [Infinity, -Infinity, Infinity, -Infinity];
  for (let n = 0; n < places.length; n += 2) {
    found[0] = Math.min(found[0], places[n]);
    found[1] = Math.max(found[1], places[n]);
    found[2] = Math.min(found[2], places[n + 1]);
    found[3] = Math.max(found[3], places[n + 1]);
  }
  return found;
}

export function dot(a, b) {
  let sum = 0;
  for (let n = 0; n < a.length; n++) sum += a[n] * b[n];
  return sum;
}

/** Return the code a share of the straight way from one to another. */
export function onTheWay(from, to, share) {
  return from.map((a, n) => (1 - share) * a + share * to[n]);
}
