/**
 * Random numbers that every language draws alike: Philox 4x32-10, a function of seed and counter without a state.
 *
 * Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011. The key is the low and the
 * high word of the seed. The counter is the block, the number of the draw within its model, the step, and
 * rank * 65536 + micro-batch.
 */

import { DTYPES, type Dtype, float16Bits, type Values } from "./dtypes.js";

export interface Place {
  seed: bigint;
  step: number;
  microBatch: number;
  rank: number;
}

export type Distribution = "uniform" | "normal";

/** The high and the low word of a product of two words. */
function multiply(a: number, b: number): [number, number] {
  const low = Math.imul(a, b) >>> 0;
  const a0 = a & 0xffff;
  const a1 = a >>> 16;
  const b0 = b & 0xffff;
  const b1 = b >>> 16;
  const middle = a1 * b0 + ((a0 * b0) >>> 16);
  const cross = a0 * b1 + (middle & 0xffff);
  const high = (a1 * b1 + Math.floor(middle / 65536) + Math.floor(cross / 65536)) >>> 0;
  return [high, low];
}

/** Four words of one block. */
export function philox(counter: readonly number[], key: readonly number[]): [number, number, number, number] {
  let [c0, c1, c2, c3] = counter as [number, number, number, number];
  let [k0, k1] = key as [number, number];
  for (let round = 0; round < 10; round++) {
    const [high0, low0] = multiply(0xd2511f53, c0);
    const [high1, low1] = multiply(0xcd9e8d57, c2);
    [c0, c1, c2, c3] = [(high1 ^ c1 ^ k0) >>> 0, low1, (high0 ^ c3 ^ k1) >>> 0, low0];
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  return [c0, c1, c2, c3];
}

/** A tensor of random numbers: uniform on [0, 1), or normal with mean 0 and variance 1. */
export function draw(distribution: Distribution, count: number, dtype: Dtype, number: number, place: Place): Values {
  const key = [Number(place.seed & 0xffffffffn), Number((place.seed >> 32n) & 0xffffffffn)];
  const last = (((place.rank & 0xffff) << 16) | (place.microBatch & 0xffff)) >>> 0;
  const block = (index: number) => philox([index, number, place.step >>> 0, last], key);
  const values = new DTYPES[dtype].array(count);
  const put = (at: number, value: number) => {
    if (at < count) values[at] = dtype === "float16" ? float16Bits(value) : value;
  };
  for (let at = 0, index = 0; at < count; index++) {
    const words = block(index);
    if (distribution === "uniform" && dtype !== "float64") {
      for (const word of words) put(at++, (word >>> 8) * 2 ** -24);
      continue;
    }
    const one = double(words[0], words[1]);
    const other = double(words[2], words[3]);
    if (distribution === "uniform") {
      put(at++, one);
      put(at++, other);
    } else {
      const radius = Math.sqrt(-2 * Math.log1p(-one));
      const angle = 2 * Math.PI * other;
      put(at++, radius * Math.cos(angle));
      put(at++, radius * Math.sin(angle));
    }
  }
  return values;
}

function double(high: number, low: number): number {
  return ((high >>> 5) * 67108864 + (low >>> 6)) * 2 ** -53;
}
