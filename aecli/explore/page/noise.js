// The noises x → x̃ of `aecli/noise.py`, at any level, with numbers that stay the same.

import { greatest } from "./network.js";

/** Return a generator of uniform numbers in [0, 1) (mulberry32). */
export function uniform(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** Return a number from N(0, 1), of two uniform ones (Box & Muller 1958). */
export function normal(draw) {
  return Math.sqrt(-2 * Math.log(1 - draw())) * Math.cos(2 * Math.PI * draw());
}

/**
 * Return x with noise of a level: a standard deviation, or the share of the features that change.
 * The same seed changes the same features in the same way, so that a slider of the level moves
 * nothing else.
 */
export function corrupted(noise, level, x, seed) {
  const draw = uniform(seed);
  const { low, high } = noise;
  if (noise.kind === "gaussian") {
    return x.map((a) => Math.min(high, Math.max(low, a + level * normal(draw))));
  }
  if (noise.kind === "salt and pepper") {
    return x.map((a) => {
      const u = draw();
      const isSalt = draw() < noise.salt;
      if (u >= level) return a;
      return isSalt ? high : low;
    });
  }
  const columns = noise.columns ?? Array.from(x.keys());
  const order = Array.from({ length: greatest(columns) + 1 }, (_, column) => [draw(), column]);
  order.sort((a, b) => a[0] - b[0]);
  const masked = new Set(
    order.slice(0, Math.floor(level * order.length + 0.5)).map(([, column]) => column),
  );
  return x.map((a, n) => (masked.has(columns[n]) ? 0 : a));
}
