/** The Trainer: state in memory, one step after another. */

import { type Bundle, filesOf, type Files, type Model, type Port, readBundle, type Source } from "./bundle.js";
import { DTYPES, type Values } from "./dtypes.js";
import { draw, type Place } from "./draws.js";
import { GradportError } from "./errors.js";
import { type Batches, fit, type FitOptions, type History } from "./fitting.js";
import { type Batch, makeTensor, tensorsOf } from "./inputs.js";
import type { Ort, Session, Tensor } from "./ort.js";
import { readSafetensors, type Stored, writeSafetensors } from "./safetensors.js";
import { shapeOf } from "./shapes.js";

const PLACEHOLDER = "weights-0000000000000000.data";
const FROZEN = "frozen.safetensors";

export interface Options {
  /** onnxruntime-web or onnxruntime-node. */
  ort: Ort;
  /** A checkpoint to go on from; else the starting state of the bundle. */
  resume?: Uint8Array;
  /** Of the random draws; a checkpoint brings its own. */
  seed?: number | bigint;
  /** Of this process where several train together. */
  rank?: number;
  /** Passed to ONNX Runtime as they are. */
  executionProviders?: readonly unknown[];
}

/** An inference model and the files that lie beside it: trained weights, and frozen ones where the bundle has any. */
export interface Exported {
  model: Uint8Array;
  data: Uint8Array;
  dataName: string;
  frozen?: Uint8Array;
  frozenName?: string;
}

export type Results = Record<string, number>;
export type Rate = number | Record<string, number>;

export class Trainer {
  /** How many steps the optimizer has taken. */
  steps = 0;
  private microBatch = 0;
  private readonly sessions = new Map<string, Promise<Session>>();
  private totals = new Map<string, Tensor>();
  private queue: Promise<unknown> = Promise.resolve();

  private constructor(
    private readonly bundle: Bundle,
    private readonly files: Files,
    private readonly options: Options,
    private readonly tensors: Map<string, Tensor>,
    private readonly place: { seed: bigint; rank: number },
  ) {}

  /** Reads a bundle: from an URL, in Node from a path, or from files by name. */
  static async load(source: Source, options: Options): Promise<Trainer> {
    const files = await filesOf(source);
    const bundle = await readBundle(files);
    const place = { seed: BigInt(options.seed ?? 0), rank: options.rank ?? 0 };
    const trainer = new Trainer(bundle, files, options, new Map(), place);
    if (options.resume) trainer.takeCheckpoint(options.resume);
    else trainer.takeStart(await files.read("state.safetensors"), "state.safetensors");
    return trainer;
  }

  /** One step: loss and gradients of a batch, then the optimizer. Gives the loss and the metrics. */
  step(inputs: Batch, options: { lr?: Rate } = {}): Promise<Results> {
    return this.alone(async () => {
      const results = await this.runGradients(inputs);
      await this.takeStep(options.lr);
      return results;
    });
  }

  /** One step on the sum of the gradients of several batches; gives means of loss and metrics. */
  accumulate(batches: readonly Batch[], options: { lr?: Rate } = {}): Promise<Results> {
    return this.alone(async () => {
      const every: Results[] = [];
      for (const batch of batches) every.push(await this.runGradients(batch));
      await this.takeStep(options.lr);
      return mean(every, every.map(() => 1));
    });
  }

  /** The gradients of a batch by parameter name, not scaled and not clipped. */
  gradients(inputs: Batch): Promise<Record<string, Tensor>> {
    return this.alone(async () => {
      await this.runGradients(inputs);
      this.microBatch = 0;
      return Object.fromEntries(this.totals);
    });
  }

  /** The optimizer's step with these gradients, one for each name that `gradients` gives. */
  apply(gradients: Batch, options: { lr?: Rate } = {}): Promise<void> {
    return this.alone(async () => {
      const ports = this.model("gradients").outputs.filter((port) => port.role === "gradient");
      const renamed = ports.map((port) => ({ ...port, name: port.of }));
      const { feeds } = tensorsOf(this.options.ort, renamed, gradients, "apply");
      this.totals = new Map(Object.entries(feeds));
      await this.takeStep(options.lr);
    });
  }

  /** Loss and metrics of a batch in eval mode. */
  evaluate(inputs: Batch): Promise<Results> {
    return this.alone(async () => numbers((await this.run("evaluate", inputs)).results));
  }

  /** Outputs of a batch in eval mode, by name. */
  predict(inputs: Batch): Promise<Record<string, Tensor>> {
    return this.alone(async () => (await this.run("predict", inputs)).results);
  }

  /** Trains over batches: an iterable or async iterable, or a function that gives one for each epoch. */
  fit(batches: Batches, options: FitOptions = {}): Promise<History> {
    return fit(this, batches, options);
  }

  /** Every state tensor by name. */
  state(): Record<string, Tensor> {
    return Object.fromEntries(this.tensors);
  }

  /** Takes over a state, or a part of it. The step and the seed stay. */
  load(state: Record<string, Tensor>): void {
    const stored = new Map<string, Stored>();
    for (const [name, tensor] of Object.entries(state)) {
      const { type: dtype, dims, data } = tensor;
      stored.set(name, { dtype: dtype as Stored["dtype"], shape: [...dims], data: data as Values });
    }
    this.takeState(stored, false);
  }

  /** Goes to a checkpoint of `save`: takes over its state, its step and its seed. */
  restore(checkpoint: Uint8Array): Promise<void> {
    return this.alone(async () => this.takeCheckpoint(checkpoint));
  }

  /** A checkpoint as the bytes of a safetensors file. */
  save(): Promise<Uint8Array> {
    return this.alone(async () => {
      const metadata = {
        gradport: "state",
        bundle: this.bundle.identity,
        step: String(this.steps),
        seed: String(this.place.seed),
      };
      const tensors = new Map<string, Stored>();
      for (const [name, port] of this.bundle.state) {
        const tensor = this.tensors.get(name)!;
        tensors.set(name, { dtype: port.dtype, shape: [...tensor.dims], data: valuesOf(tensor, port) });
      }
      return writeSafetensors({ tensors, metadata });
    });
  }

  /** An inference model with the trained weights: the model, and the files that it names. */
  export(): Promise<Exported> {
    return this.alone(async () => {
      const entry = this.model("inference");
      const data = new Uint8Array(entry.data?.bytes ?? 0);
      for (const { name, offset } of entry.data?.tensors ?? []) {
        const values = valuesOf(this.tensors.get(name)!, this.bundle.state.get(name)!);
        data.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), offset);
      }
      const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
      const hex = [...digest.subarray(0, 8)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
      const dataName = `weights-${hex}.data`;
      const model = replaceBytes(await this.files.read(entry.file), PLACEHOLDER, dataName);
      if (!entry.frozen) return { model, data, dataName };
      return { model, data, dataName, frozen: await this.files.read(FROZEN), frozenName: entry.frozen };
    });
  }

  /** Frees the sessions. */
  async dispose(): Promise<void> {
    await this.queue.catch(() => undefined);
    for (const session of this.sessions.values()) await (await session).release();
    this.sessions.clear();
  }

  /** Runs one call after another, so that a step is never cut in two. */
  private alone<T>(body: () => Promise<T>): Promise<T> {
    const result = this.queue.then(body);
    this.queue = result.catch(() => undefined);
    return result;
  }

  private async runGradients(inputs: Batch): Promise<Results> {
    const before = this.microBatch ? this.totals : undefined;
    const { results } = await this.run("gradients", inputs);
    const { outputs } = this.model("gradients");
    const scalars = outputs.filter((port) => port.role === "loss" || port.role === "metric");
    const found = numbers(Object.fromEntries(scalars.map((port) => [port.name, results[port.name]!])));
    const finite = Number.isFinite(found.loss ?? 0);
    if (!finite && !this.bundle.skips) {
      const text = `The loss of step ${this.steps + 1} is ${found.loss}; the state is that of step ${this.steps}.`;
      throw new GradportError("not-finite", text);
    }
    const totals = new Map<string, Tensor>();
    for (const port of outputs) {
      const tensor = results[port.name]!;
      if (port.role === "gradient") totals.set(port.of, before ? sum(tensor, before.get(port.of)!) : tensor);
      if (port.role === "new_state" && finite) this.tensors.set(port.of, tensor);
    }
    this.totals = totals;
    this.microBatch += 1;
    return found;
  }

  private async takeStep(lr: Rate | undefined): Promise<void> {
    const model = this.model("apply");
    const feeds: Record<string, Tensor> = {};
    for (const port of model.inputs) {
      const kept = port.role === "gradient" ? this.totals : this.tensors;
      if (port.role === "gradient" || port.role === "state") feeds[port.name] = this.shaped(kept.get(port.of)!, port);
      if (port.role === "lr") {
        feeds[port.name] = makeTensor(this.options.ort, port, new Float32Array([this.rate(port.name, lr)]), []);
      }
    }
    const results = await this.runSession(model, feeds);
    for (const port of model.outputs) {
      this.tensors.set(port.of, this.shaped(results[port.name]!, this.bundle.state.get(port.of)!));
    }
    this.steps += 1;
    this.microBatch = 0;
  }

  /** A tensor in the shape of a port: the optimizer's step sees large tensors as rows. */
  private shaped(tensor: Tensor, port: Port): Tensor {
    const dims = shapeOf(port.shape, new Map());
    const equal = dims.length === tensor.dims.length && dims.every((size, axis) => size === tensor.dims[axis]);
    return equal ? tensor : new this.options.ort.Tensor(tensor.type as never, tensor.data as never, dims);
  }

  private rate(name: string, lr: Rate | undefined): number {
    if (typeof lr === "number") return lr;
    if (lr && Object.hasOwn(lr, name)) return lr[name]!;
    const values = this.bundle.schedule.get(name)!;
    return values[Math.min(this.steps, values.length - 1)]!;
  }

  private async run(name: string, inputs: Batch): Promise<{ results: Record<string, Tensor> }> {
    const model = this.model(name);
    const ports = model.inputs.filter((port) => port.role === "argument" || port.role === "target");
    const { feeds, sizes } = tensorsOf(this.options.ort, ports, inputs, name);
    for (const port of model.inputs) if (port.role === "state") feeds[port.name] = this.tensors.get(port.of)!;
    this.drawInto(feeds, model, sizes);
    return { results: await this.runSession(model, feeds) };
  }

  private drawInto(feeds: Record<string, Tensor>, model: Model, sizes: ReadonlyMap<string, number>): void {
    const place: Place = { ...this.place, step: this.steps, microBatch: this.microBatch };
    model.draws.forEach(({ name, distribution }, number) => {
      const port = model.inputs.find((one) => one.name === name)!;
      const dims = shapeOf(port.shape, sizes);
      const count = dims.reduce((product, size) => product * size, 1);
      feeds[name] = makeTensor(this.options.ort, port, draw(distribution, count, port.dtype, number, place), dims);
    });
  }

  private async runSession(model: Model, feeds: Record<string, Tensor>): Promise<Record<string, Tensor>> {
    try {
      return await (await this.session(model)).run(feeds);
    } catch (error) {
      if (error instanceof GradportError) throw error;
      throw new GradportError("runtime", `${model.file}: ONNX Runtime fails: ${String(error)}`, { cause: error });
    }
  }

  private session(model: Model): Promise<Session> {
    let session = this.sessions.get(model.name);
    if (!session) {
      session = this.openSession(model);
      this.sessions.set(model.name, session);
      // A file may come at the next try: a network fails for a moment.
      session.catch(() => this.sessions.delete(model.name));
    }
    return session;
  }

  private async openSession(model: Model): Promise<Session> {
    const path = this.files.path(model.file);
    const web = path === undefined;
    const options: Record<string, unknown> = {
      logSeverityLevel: 3,
      enableMemPattern: false,
      extra: { session: { qdq_matmulnbits_accuracy_level: "1", force_spinning_stop: "1" } },
    };
    if (this.options.executionProviders) options.executionProviders = this.options.executionProviders;
    const create = this.options.ort.InferenceSession.create as (model: unknown, options: unknown) => Promise<Session>;
    if (web || "env" in this.options.ort === false) return create(await this.files.read(model.file), await this.withData(options));
    return create(path, options).catch(async () => create(await this.files.read(model.file), await this.withData(options)));
  }

  /** The frozen weights, where the bundle has any, for a session that is made from bytes. */
  private async withData(options: Record<string, unknown>): Promise<Record<string, unknown>> {
    const data = await this.files.read(FROZEN).catch(() => undefined);
    return data ? { ...options, externalData: [{ path: FROZEN, data }] } : options;
  }

  private model(name: string): Model {
    const model = this.bundle.models.get(name);
    if (!model) throw new GradportError("model-missing", `The bundle has no model ${name}.`);
    return model;
  }

  private takeCheckpoint(bytes: Uint8Array): void {
    this.place.seed = BigInt(this.takeStart(bytes, "The checkpoint").seed ?? 0);
  }

  /** Takes over the state and the step of a state file, and gives its metadata. */
  private takeStart(bytes: Uint8Array, source: string): Record<string, string> {
    const { tensors, metadata } = readSafetensors(bytes, source);
    if (metadata.gradport !== "state" || metadata.bundle !== this.bundle.identity) {
      throw new GradportError("other-bundle", "The checkpoint is not one of this bundle.");
    }
    this.takeState(tensors, true);
    this.steps = Number(metadata.step ?? 0);
    this.microBatch = 0;
    return metadata;
  }

  private takeState(stored: ReadonlyMap<string, Stored>, whole: boolean): void {
    for (const name of stored.keys()) {
      if (!this.bundle.state.has(name)) throw new GradportError("state-differs", `The state has an unknown '${name}'.`);
    }
    for (const [name, port] of this.bundle.state) {
      const tensor = stored.get(name);
      if (!tensor && whole) throw new GradportError("state-differs", `The state has no '${name}'.`);
      if (tensor && (tensor.dtype !== port.dtype || String(tensor.shape) !== String(port.shape))) {
        const text = `'${name}' is ${tensor.dtype}[${tensor.shape}], not ${port.dtype}[${port.shape}].`;
        throw new GradportError("state-differs", text);
      }
    }
    for (const [name, { data, shape }] of stored) {
      this.tensors.set(name, makeTensor(this.options.ort, this.bundle.state.get(name)!, data, shape));
    }
  }
}

export function mean(rows: readonly Results[], weights: readonly number[]): Results {
  const total = weights.reduce((one, other) => one + other, 0);
  const names = Object.keys(rows[0] ?? {});
  return Object.fromEntries(
    names.map((name) => [name, rows.reduce((found, row, at) => found + row[name]! * weights[at]!, 0) / total]),
  );
}

function numbers(results: Record<string, Tensor>): Results {
  return Object.fromEntries(
    Object.entries(results).map(([name, tensor]) => [name, Number((tensor.data as ArrayLike<number>)[0])]),
  );
}

/** The numbers of a tensor in the array that its dtype has here; float16 may come as another kind of array. */
function valuesOf(tensor: Tensor, port: Port): Values {
  const data = tensor.data as Values;
  const kind = DTYPES[port.dtype];
  return data instanceof kind.array ? data : new kind.view(data.buffer, data.byteOffset, data.length);
}

function sum(one: Tensor, other: Tensor): Tensor {
  const values = one.data as Float32Array;
  const added = other.data as Float32Array;
  if (one.type === "float16") throw new GradportError("runtime", "Gradients in float16 cannot be added here.");
  for (let at = 0; at < values.length; at++) values[at] = values[at]! + added[at]!;
  return one;
}

function replaceBytes(bytes: Uint8Array, old: string, text: string): Uint8Array {
  const [from, to] = [new TextEncoder().encode(old), new TextEncoder().encode(text)];
  const copy = bytes.slice();
  for (let at = copy.indexOf(from[0]!); at >= 0; at = copy.indexOf(from[0]!, at + 1)) {
    if (from.every((byte, index) => copy[at + index] === byte)) copy.set(to, at);
  }
  return copy;
}
