// The decoder's output → the mean of p(x|z), and −log p(x|z). As in `aecli/likelihoods/`.

import { greatest, sigmoid, softplus } from "./network.js";

const LOG_2PI = Math.log(2 * Math.PI);

/** The mean of a continuous Bernoulli variable with logit l, by its series where |l| < ½. */
function continuousMean(l) {
  if (Math.abs(l) >= 0.5) return -1 / Math.expm1(-l) - 1 / l;
  const square = l * l;
  return 0.5 + (l / 12) * (1 - (square / 60) * (1 - square / 42));
}

/** log of l / tanh(l / 2), the constant of a continuous Bernoulli variable (arXiv 1907.06845). */
function continuousConstant(l) {
  return Math.abs(l) < 1e-3 ? Math.LN2 + (l * l) / 12 : Math.log(l / Math.tanh(l / 2));
}

function softmax(values) {
  const most = greatest(values);
  const weights = values.map((a) => Math.exp(a - most));
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((a) => a / sum);
}

/** Return the mean of p(x|z) for a decoder's output. */
export function meanOf(likelihood, output) {
  const { kind } = likelihood;
  if (kind === "bernoulli" || likelihood.output === "sigmoid") return output.map(sigmoid);
  if (kind === "continuous_bernoulli") return output.map(continuousMean);
  if (kind !== "mixed") return output;
  const mean = Float32Array.from(output);
  for (const [start, width] of likelihood.categories) {
    mean.set(softmax(output.slice(start, start + width)), start);
  }
  if (likelihood.mask !== null) mean.fill(1, likelihood.mask);
  return mean;
}

/** Return which entries of a table's row count: 0 where its mask says that one is missing. */
function counted(likelihood, x) {
  if (likelihood.kind !== "mixed" || likelihood.mask === null) return () => 1;
  return (n) => (n < likelihood.mask ? x[likelihood.mask + likelihood.columns[n]] : 0);
}

/** Return −log p(x|z), nats, for a decoder's output. */
export function negativeLogLikelihood(likelihood, output, x) {
  const { kind } = likelihood;
  let sum = 0;
  if (kind === "mixed") {
    const counts = counted(likelihood, x);
    likelihood.numbers.forEach((n, place) => {
      const sigma = likelihood.sigma[place];
      const scaled = (x[n] - output[n]) / sigma;
      sum += counts(n) * (0.5 * (scaled * scaled + LOG_2PI) + Math.log(sigma));
    });
    for (const [start, width] of likelihood.categories) {
      softmax(output.slice(start, start + width)).forEach((p, k) => {
        sum -= counts(start) * x[start + k] * Math.log(Math.max(p, 1e-38));
      });
    }
    return sum;
  }
  for (let n = 0; n < x.length; n++) {
    const l = output[n];
    if (kind === "gaussian") {
      const scaled = (x[n] - l) / likelihood.sigma;
      sum += 0.5 * (scaled * scaled + LOG_2PI) + Math.log(likelihood.sigma);
    } else {
      sum += softplus(l) - x[n] * l;
      if (kind === "continuous_bernoulli") sum -= continuousConstant(l);
    }
  }
  return sum;
}

/** Return the squared error of each feature; 0 of an entry that is missing. */
export function squaredErrors(likelihood, mean, x) {
  const counts = counted(likelihood, x);
  return mean.map((y, n) => counts(n) * (y - x[n]) ** 2);
}

/** Return the mean of the squared errors over the entries that are there. */
export function meanSquaredError(likelihood, mean, x) {
  const counts = counted(likelihood, x);
  let present = 0;
  for (let n = 0; n < x.length; n++) present += counts(n);
  const errors = squaredErrors(likelihood, mean, x);
  return errors.reduce((a, b) => a + b, 0) / Math.max(1, present);
}
