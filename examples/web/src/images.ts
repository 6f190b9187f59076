/** Images with labels, and batches of them. */

import type { Batch } from "gradport";

import { type Example } from "./examples";
import { randomDistortion, rasterise, SIZE } from "./ink";

export interface Labelled {
  image: Float32Array;
  label: number;
}

/** Images of each kind in a batch of a step. */
const HALF = 16;

export function batchOf(rows: readonly Labelled[]): Batch {
  return { ...inputOf(rows.map((row) => row.image)), target: rows.map((row) => row.label) };
}

export function inputOf(images: readonly Float32Array[]): Batch {
  const data = new Float32Array(images.length * SIZE * SIZE);
  images.forEach((image, at) => data.set(image, at * SIZE * SIZE));
  return { image: { data, dims: [images.length, 1, SIZE, SIZE] } };
}

/** The visitor's drawings as they are. */
export function imagesOf(examples: readonly Example[]): Labelled[] {
  return examples.map(({ strokes, label }) => ({ image: rasterise(strokes), label }));
}

/** Half of it drawings, each distorted anew; half of it real digits, so that the network does not forget these. */
export function mixedBatch(examples: readonly Example[], digits: readonly Labelled[]): Batch {
  const own = pick(examples, HALF).map(({ strokes, label }) => ({
    image: rasterise(strokes, randomDistortion(Math.random)),
    label,
  }));
  return batchOf([...own, ...pick(digits, HALF)]);
}

/** `count` rows in a random order; no row comes twice before every row has come once. */
function pick<T>(rows: readonly T[], count: number): T[] {
  const picked: T[] = [];
  while (picked.length < count) {
    const shuffled = rows.map((row) => ({ row, key: Math.random() })).sort((one, other) => one.key - other.key);
    picked.push(...shuffled.slice(0, count - picked.length).map(({ row }) => row));
  }
  return picked;
}
