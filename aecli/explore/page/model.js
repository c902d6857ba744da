// A run's model in the page: x → code → mean, and what is known of its codes.

import { meanOf, meanSquaredError, negativeLogLikelihood, squaredErrors } from "./likelihood.js";
import { largestFirst, run } from "./network.js";

export class Model {
  /** `description` is what `aecli/explore/model.py` says of it, its arrays in their places. */
  constructor(description) {
    Object.assign(this, description);
    /** Whether its networks are here; else there are decodings on a grid. */
    this.computes = this.decoder !== null;
    this.hasPosterior = this.logVariances !== null;
    /** What each unit carries: the KL of it in nats, or the variance. */
    this.carried = this.kl ?? this.variance;
    this.order = largestFirst(this.carried);
    this.sparsity = this.encoder?.find((step) => step.name === "largest") ?? null;
  }

  /** Return the code of the n-th example. */
  codeOf(n) {
    return this.codes.slice(n * this.units, (n + 1) * this.units);
  }

  /** Return log σ² of q(z|x) of the n-th example. */
  logVarianceOf(n) {
    return this.logVariances.subarray(n * this.units, (n + 1) * this.units);
  }

  /**
   * Return the code of x, and log σ² of q(z|x) where there is one; `k` is that of a k-sparse code,
   * in place of its own.
   */
  encode(x, k = null) {
    let steps = this.encoder;
    if (k !== null) steps = steps.map((step) => (step.name === "largest" ? { ...step, k } : step));
    const output = run(steps, x);
    if (!this.hasPosterior) return { code: output, logVariance: null };
    return {
      code: output.slice(0, this.units),
      logVariance: output.slice(this.units),
    };
  }

  /** Return the mean of p(x|z). */
  decode(z) {
    return meanOf(this.likelihood, run(this.decoder, z));
  }

  /** Return what x costs at a code, and how it is called; see `examples.score_name` in Python. */
  score(x, { code, logVariance }) {
    const output = run(this.decoder, code);
    const mean = meanOf(this.likelihood, output);
    const mse = meanSquaredError(this.likelihood, mean, x);
    if (!this.likelihood.is_density) return { value: mse, mse, nll: null, kl: null };
    const seen = this.binary ? x.map((a) => (a >= 0.5 ? 1 : 0)) : x;
    const nll = negativeLogLikelihood(this.likelihood, output, seen);
    let kl = null;
    if (this.prior === "normal") {
      kl = 0;
      code.forEach((m, n) => {
        kl += 0.5 * (m * m + Math.exp(logVariance[n]) - 1 - logVariance[n]);
      });
    }
    return { value: nll + (kl ?? 0), mse, nll, kl };
  }

  errors(mean, x) {
    return squaredErrors(this.likelihood, mean, x);
  }

  /** Return the share of the examples here whose score is lower. */
  rank(score) {
    return this.scores.reduce((count, other) => count + (other < score), 0) / this.scores.length;
  }

  /** Return the picture that a unit adds to the reconstruction, of a decoder that is a sum. */
  filter(unit) {
    const [{ name, weight, bias }] = this.decoder;
    if (name === "transposed_linear") {
      return weight.slice(unit * bias.length, (unit + 1) * bias.length);
    }
    return Float32Array.from(bias, (_, n) => weight[n * this.units + unit]);
  }

  get bias() {
    return this.decoder[0].bias;
  }
}
