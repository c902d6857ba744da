// The part of the plane that the map shows, its middle and half widths, within the whole.

/** How many times larger than in the whole map things are, at most. */
export const DEEPEST = 200;
/** A point is in view within this share of the half widths. */
const IN_VIEW = 0.9;

/** Return what is shown `factor` times larger, with `place` where it is now. */
export function zoomed({ middle, half }, whole, factor, place) {
  const depth = Math.min(DEEPEST, Math.max(1, factor * zoom({ half }, whole)));
  const found = whole.half.map((value) => value / depth);
  const moved = middle.map((value, n) => place[n] + ((value - place[n]) * found[n]) / half[n]);
  return within({ middle: moved, half: found }, whole);
}

/** Return what is shown when the map is moved by a part of the plane, [right, up]. */
export function panned({ middle, half }, whole, by) {
  return within({ middle: middle.map((value, n) => value - by[n]), half }, whole);
}

/** Return what is shown when the map is moved just so far that a place is in view. */
export function including({ middle, half }, whole, place) {
  const moved = middle.map((value, n) => {
    const room = IN_VIEW * half[n];
    return Math.min(place[n] + room, Math.max(place[n] - room, value));
  });
  return within({ middle: moved, half }, whole);
}

/** Return how many times larger than in the whole map things are. */
export function zoom({ half }, whole) {
  return whole.half[0] / half[0];
}

export function isInView({ middle, half }, place) {
  return place.every((value, n) => Math.abs(value - middle[n]) <= half[n]);
}

/** Return whether two parts of the plane are one but for rounding. */
export function isAlike(a, b) {
  return a.half.every((half, n) => {
    const far = Math.abs(a.middle[n] - b.middle[n]) + Math.abs(half - b.half[n]);
    return far <= 1e-6 * half;
  });
}

/** Return what is shown without what lies outside the whole. */
function within({ middle, half }, whole) {
  const kept = middle.map((value, n) => {
    const room = whole.half[n] - half[n];
    return Math.min(whole.middle[n] + room, Math.max(whole.middle[n] - room, value));
  });
  return { middle: kept, half };
}
