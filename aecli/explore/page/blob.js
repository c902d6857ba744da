// Arrays out of the page's one compressed text; `aecli/explore/blob.py` writes it.

/** Return the bytes of a base64 text that was deflated. */
export async function inflated(text) {
  const characters = atob(text);
  const packed = new Uint8Array(characters.length);
  for (let n = 0; n < packed.length; n++) packed[n] = characters.charCodeAt(n);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** The value of each of the 65,536 halves (IEEE 754 binary16). */
const HALVES = Float32Array.from({ length: 65536 }, (_, bits) => {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
});

/**
 * Return the array at a place of the bytes, as Float32Array, times its factor.
 * The first bytes of all numbers come before their second ones.
 */
export function arrayAt(bytes, { at, length, type, factor = 1 }) {
  const found = new Float32Array(length);
  const plane = (number) => bytes.subarray(at + number * length, at + (number + 1) * length);
  const [first, second, third, fourth] = [0, 1, 2, 3].map(plane);
  if (type === "bytes") {
    for (let n = 0; n < length; n++) found[n] = first[n] * factor;
  } else if (type === "half") {
    for (let n = 0; n < length; n++) found[n] = HALVES[(first[n] << 8) | second[n]] * factor;
  } else {
    const bits = new Uint32Array(found.buffer);
    for (let n = 0; n < length; n++) {
      bits[n] = (first[n] << 24) | (second[n] << 16) | (third[n] << 8) | fourth[n];
    }
  }
  return found;
}

/** Replace every place `{at, …}` in a tree of plain data by its array. */
export function withArrays(node, bytes) {
  if (node === null || typeof node !== "object") return node;
  if (typeof node.at === "number" && typeof node.type === "string") return arrayAt(bytes, node);
  if (Array.isArray(node)) return node.map((part) => withArrays(part, bytes));
  return Object.fromEntries(
    Object.entries(node).map(([key, part]) => [key, withArrays(part, bytes)]),
  );
}
