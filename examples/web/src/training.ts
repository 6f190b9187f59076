/** The network in its worker: guesses, training, undo. */

import { connect, type Exported, type RemoteTrainer, type Results } from "gradport";

import { type Digits } from "./digits";
import { type Example } from "./examples";
import { batchOf, imagesOf, inputOf, mixedBatch } from "./images";

const BUNDLE = "bundle/";
const LEVELS_OF_UNDO = 20;
/** Steps between two evaluations. */
const EVERY = 2;
const PACE_OVER = 10;

/** Loss and accuracy after a step. */
export interface Measured {
  step: number;
  own: Results;
  real: Results;
}

export interface Progress {
  step: number;
  steps: number;
  /** The median time of the last steps, in milliseconds: the very first one also opens sessions. */
  pace: number;
}

interface Level {
  checkpoint: Uint8Array;
  history: Measured[];
}

export class Training {
  history: Measured[] = [];
  private readonly levels: Level[] = [];
  private stopping = false;

  private constructor(
    private readonly trainer: RemoteTrainer,
    private readonly digits: Digits,
  ) {}

  static async open(digits: Digits): Promise<Training> {
    const worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
    const training = new Training(await connect(worker, BUNDLE), digits);
    // The first guess loads WebAssembly: better now than under the visitor's pen.
    await training.guess(digits.validation[0]!.image);
    return training;
  }

  get canUndo(): boolean {
    return this.levels.length > 0;
  }

  get steps(): number {
    return this.trainer.steps;
  }

  /** Goes on from a saved state. */
  async resume(checkpoint: Uint8Array, history: Measured[]): Promise<void> {
    await this.trainer.restore(checkpoint);
    this.history = history;
  }

  /** The probability of each digit. */
  async guess(image: Float32Array): Promise<number[]> {
    const { output } = await this.trainer.predict(inputOf([image]));
    const values = [...(output!.data as Float32Array)];
    const most = Math.max(...values);
    const powers = values.map((value) => Math.exp(value - most));
    const total = powers.reduce((sum, power) => sum + power, 0);
    return powers.map((power) => power / total);
  }

  /** Takes steps until all are taken or `stop` is called; `seen` is called after each. */
  async train(examples: readonly Example[], steps: number, seen: (progress: Progress) => void): Promise<void> {
    this.stopping = false;
    const before = this.trainer.steps;
    await this.remember();
    try {
      await this.takeSteps(examples, steps, seen);
    } finally {
      if (this.trainer.steps === before) this.levels.pop(); // there is nothing to undo
    }
  }

  private async takeSteps(
    examples: readonly Example[],
    steps: number,
    seen: (progress: Progress) => void,
  ): Promise<void> {
    if (this.history.length === 0) await this.measure(examples);
    const times: number[] = [];
    for (let step = 1; step <= steps && !this.stopping; step++) {
      const batch = mixedBatch(examples, this.digits.rehearsal);
      const start = performance.now();
      await this.trainer.step(batch);
      times.push(performance.now() - start);
      if (step % EVERY === 0) await this.measure(examples);
      seen({ step, steps, pace: medianOf(times.slice(-PACE_OVER)) });
    }
    if (this.history.at(-1)?.step !== this.trainer.steps) await this.measure(examples);
  }

  stop(): void {
    this.stopping = true;
  }

  /** Goes back to the state before the last training or reset. */
  async undo(): Promise<void> {
    const level = this.levels.pop();
    if (level) await this.resume(level.checkpoint, level.history);
  }

  /** Goes back to the network of the bundle. */
  async reset(): Promise<void> {
    const response = await fetch(`${BUNDLE}state.safetensors`);
    if (!response.ok) throw new Error("bundle/state.safetensors is missing on the server.");
    await this.remember();
    await this.resume(new Uint8Array(await response.arrayBuffer()), []);
  }

  forgetLevels(): void {
    this.levels.length = 0;
  }

  checkpoint(): Promise<Uint8Array> {
    return this.trainer.save();
  }

  export(): Promise<Exported> {
    return this.trainer.export();
  }

  private async remember(): Promise<void> {
    this.levels.push({ checkpoint: await this.trainer.save(), history: this.history });
    if (this.levels.length > LEVELS_OF_UNDO) this.levels.shift();
  }

  private async measure(examples: readonly Example[]): Promise<void> {
    const own = await this.trainer.evaluate(batchOf(imagesOf(examples)));
    const real = await this.trainer.evaluate(batchOf(this.digits.validation));
    this.history = [...this.history, { step: this.trainer.steps, own, real }];
  }
}

function medianOf(values: readonly number[]): number {
  const sorted = [...values].sort((one, other) => one - other);
  return sorted[Math.floor(sorted.length / 2)]!;
}
