// What a network computes, operation by operation, for one example: Float32Array → Float32Array.
// `aecli/explore/plan.py` translates the run's modules into these operations.

export const sigmoid = (a) => 1 / (1 + Math.exp(-a));

/** log(1 + e^a), as torch's softplus: a itself where it is large. */
export const softplus = (a) => (a > 20 ? a : Math.log1p(Math.exp(a)));

/** The error function, to 1.2e-7 (Numerical Recipes' erfc by a Chebyshev fit). */
function erf(a) {
  const t = 1 / (1 + 0.5 * Math.abs(a));
  const series = [
    0.17087277, -0.82215223, 1.48851587, -1.13520398, 0.27886807, -0.18628806, 0.09678418,
    0.37409196, 1.00002368, -1.26551223,
  ].reduce((sum, coefficient) => sum * t + coefficient, 0);
  const rest = t * Math.exp(-a * a + series);
  return a >= 0 ? 1 - rest : rest - 1;
}

const elementwise = (f) => (x) => x.map(f);

const OPERATIONS = {
  relu: elementwise((a) => (a > 0 ? a : 0)),
  gelu: elementwise((a) => 0.5 * a * (1 + erf(a * Math.SQRT1_2))),
  elu: elementwise((a) => (a > 0 ? a : Math.expm1(a))),
  tanh: elementwise(Math.tanh),
  sigmoid: elementwise(sigmoid),
  softplus: elementwise(softplus),

  /** h = a ⊙ σ(b), with a and b the halves of x. */
  gated(x) {
    const half = x.length / 2;
    return x.subarray(0, half).map((a, n) => a * sigmoid(x[half + n]));
  },

  /** y = W x + b, W (outputs, inputs). */
  linear(x, { weight, bias }) {
    const inputs = x.length;
    const y = new Float32Array(bias.length);
    for (let o = 0, w = 0; o < y.length; o++) {
      let sum = 0;
      for (let i = 0; i < inputs; i++, w++) sum += weight[w] * x[i];
      y[o] = sum + bias[o];
    }
    return y;
  },

  /** y = Wᵀ x + b, W (inputs, outputs): a tied layer. Units that are off cost nothing. */
  transposed_linear(x, { weight, bias }) {
    const y = Float32Array.from(bias);
    for (let i = 0; i < x.length; i++) {
      if (x[i] === 0) continue;
      const row = i * y.length;
      for (let o = 0; o < y.length; o++) y[o] += x[i] * weight[row + o];
    }
    return y;
  },

  /** A convolution of images (C, H, W), flat; weight (C', C, k, k). */
  convolution(x, { from, to, stride, padding, weight, bias }) {
    const y = filledWith(bias, to);
    const side = filterSide(weight, from[0] * to[0]);
    eachTap(to[0], from[0], side, (o, i, row, column, tap) => {
      const w = weight[tap];
      for (let h = 0; h < to[1]; h++) {
        const above = h * stride + row - padding;
        if (above < 0 || above >= from[1]) continue;
        const source = (i * from[1] + above) * from[2] + column - padding;
        const target = (o * to[1] + h) * to[2];
        const [first, end] = inside(column - padding, stride, from[2], to[2]);
        for (let v = first; v < end; v++) y[target + v] += w * x[source + v * stride];
      }
    });
    return y;
  },

  /** Its transpose, from the smaller image to the larger one; weight (C, C', k, k). */
  transposed_convolution(x, { from, to, stride, padding, weight, bias }) {
    const y = filledWith(bias, to);
    const side = filterSide(weight, from[0] * to[0]);
    eachTap(from[0], to[0], side, (i, o, row, column, tap) => {
      const w = weight[tap];
      for (let h = 0; h < from[1]; h++) {
        const below = h * stride + row - padding;
        if (below < 0 || below >= to[1]) continue;
        const source = (i * from[1] + h) * from[2];
        const target = (o * to[1] + below) * to[2] + column - padding;
        const [first, end] = inside(column - padding, stride, to[2], from[2]);
        for (let v = first; v < end; v++) y[target + v * stride] += w * x[source + v];
      }
    });
    return y;
  },

  /** The k largest numbers, by value or by magnitude; 0 in place of the others. */
  largest(x, { k, by }) {
    const rank = by === "magnitude" ? x.map(Math.abs) : x;
    const y = new Float32Array(x.length);
    for (const n of largestFirst(rank).slice(0, k)) y[n] = x[n];
    return y;
  },
};

/** Return what the operations make of x. */
export function run(operations, x) {
  return operations.reduce((y, operation) => OPERATIONS[operation.name](y, operation), x);
}

/** Return the largest of some numbers; of as many as a call takes no arguments, too. */
export function greatest(values) {
  return values.reduce((most, value) => Math.max(most, value), Number.NEGATIVE_INFINITY);
}

/** Return the places of an array, that of its largest number first. */
export function largestFirst(values) {
  return Array.from(values.keys()).sort((a, b) => values[b] - values[a]);
}

function filledWith(bias, [channels, height, width]) {
  const y = new Float32Array(channels * height * width);
  bias.forEach((b, c) => {
    y.fill(b, c * height * width, (c + 1) * height * width);
  });
  return y;
}

const filterSide = (weight, pairs) => Math.round(Math.sqrt(weight.length / pairs));

/** Call `visit` for each number of filters (A, B, side, side). */
function eachTap(first, second, side, visit) {
  let tap = 0;
  for (let a = 0; a < first; a++) {
    for (let b = 0; b < second; b++) {
      for (let row = 0; row < side; row++) {
        for (let column = 0; column < side; column++) visit(a, b, row, column, tap++);
      }
    }
  }
}

/** Return the v in [0, count) for which shift + v · stride lies in [0, size), as [first, end). */
function inside(shift, stride, size, count) {
  const first = Math.max(0, Math.ceil(-shift / stride));
  return [first, Math.min(count, Math.ceil((size - shift) / stride))];
}
