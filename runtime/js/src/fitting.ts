/** The loop over batches: epochs, validation, history. */

import { GradportError } from "./errors.js";
import type { Batch } from "./inputs.js";
import { mean, type Results, type Trainer } from "./trainer.js";

export type Iterables = Iterable<Batch> | AsyncIterable<Batch>;
export type Batches = Iterables | (() => Iterables);

export interface FitOptions {
  epochs?: number;
  /** Batches that are evaluated after each epoch. */
  validate?: Batches;
  /** How many batches add up their gradients before a step. */
  accumulate?: number;
  /** Called after each step with its number and its results; true ends the training. */
  onStep?: (step: number, results: Results) => unknown;
  /** Ends the training after the step that runs. */
  signal?: AbortSignal;
}

export interface History {
  /** Loss and metrics of each step. */
  steps: Results[];
  /** Those of each validation, or the means of the steps where nothing was validated. */
  epochs: Results[];
}

export async function fit(trainer: Trainer, batches: Batches, options: FitOptions): Promise<History> {
  const { epochs = 1, accumulate = 1 } = options;
  for (const [what, value] of Object.entries({ epochs, accumulate })) {
    if (!Number.isInteger(value) || value < 1) {
      throw new GradportError("input-shape", `${what}=${value} is not a whole number of 1 or more.`);
    }
  }
  if (epochs > 1 && typeof batches !== "function" && isIterator(batches)) {
    const text = "batches is an iterator, which ends after one epoch; give an array or a function.";
    throw new GradportError("input-shape", text);
  }
  const history: History = { steps: [], epochs: [] };
  for (let epoch = 0; epoch < epochs; epoch++) {
    const first = history.steps.length;
    for await (const group of groups(batches, accumulate)) {
      const results = await trainer.accumulate(group);
      history.steps.push(results);
      if (options.onStep?.(trainer.steps, results) === true || options.signal?.aborted) return history;
    }
    const own = history.steps.slice(first);
    history.epochs.push(options.validate ? await validated(trainer, options.validate) : mean(own, own.map(() => 1)));
  }
  return history;
}

function isIterator(batches: Iterables): boolean {
  return Symbol.iterator in batches && (batches[Symbol.iterator]() as unknown) === batches;
}

async function* groups(batches: Batches, size: number): AsyncGenerator<Batch[]> {
  let group: Batch[] = [];
  for await (const batch of typeof batches === "function" ? batches() : batches) {
    group.push(batch);
    if (group.length === size) {
      yield group;
      group = [];
    }
  }
  if (group.length) yield group;
}

/** Means over the elements of all batches: each batch counts by its first dimension. */
async function validated(trainer: Trainer, batches: Batches): Promise<Results> {
  const rows: Results[] = [];
  const weights: number[] = [];
  for await (const batch of typeof batches === "function" ? batches() : batches) {
    rows.push(await trainer.evaluate(batch));
    const first = Object.values(batch)[0]!;
    const dims = typeof first === "object" && "dims" in first ? first.dims : undefined;
    weights.push(dims?.[0] ?? (typeof first === "number" ? 1 : (first as ArrayLike<number>).length) ?? 1);
  }
  return mean(rows, weights);
}
