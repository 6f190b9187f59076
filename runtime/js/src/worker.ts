/**
 * A Trainer in a Worker, so that a page stays responsive.
 *
 * In the worker: `serve(ort)`. In the page: `const trainer = await connect(worker, "bundle/", { seed: 0 })`, which has
 * the methods of a Trainer but `fit`, `state` and `load`; tensors come back as `{ type, data, dims }`.
 */

import type { Source } from "./bundle.js";
import { type Code, GradportError } from "./errors.js";
import type { Batch } from "./inputs.js";
import type { Ort, Tensor } from "./ort.js";
import { type Exported, type Options, type Rate, type Results, Trainer } from "./trainer.js";

/** Asked until a worker answers: what is posted before it listens is lost. The answer has the number 0. */
const READY = "ready";

type Call = { id: number; method: string; args: unknown[] };
type Answer = { id: number; value?: unknown; steps?: number; error?: { code: Code; message: string } };

interface Scope {
  postMessage(message: unknown): void;
  addEventListener(type: "message", listener: (event: MessageEvent) => void): void;
}

/** Answers calls in a worker. */
export function serve(ort: Ort, scope: Scope = globalThis as unknown as Scope): void {
  let trainer: Trainer | undefined;
  const answer = async ({ method, args }: Call): Promise<unknown> => {
    if (method === "open") {
      const [source, options] = args as [Source, Omit<Options, "ort">];
      trainer = await Trainer.load(source, { ...options, ort });
      return undefined;
    }
    const called = trainer as unknown as Record<string, (...args: unknown[]) => Promise<unknown>>;
    return plain(await called[method]!(...args));
  };
  scope.addEventListener("message", (event) => {
    const call = event.data as Call;
    if (call.method === READY) scope.postMessage({ id: 0 });
    if (typeof call.id !== "number" || !call.id) return;
    answer(call).then(
      (value) => scope.postMessage({ id: call.id, value, steps: trainer?.steps ?? 0 }),
      (error: unknown) => {
        const code = error instanceof GradportError ? error.code : "runtime";
        scope.postMessage({ id: call.id, error: { code, message: error instanceof Error ? error.message : String(error) } });
      },
    );
  });
  scope.postMessage({ id: 0 });
}

function plain(value: unknown): unknown {
  if (typeof value !== "object" || value === null || ArrayBuffer.isView(value)) return value;
  if ("dims" in value && "type" in value) {
    const { type, data, dims } = value as Tensor;
    return { type, data, dims };
  }
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, plain(one)]));
}

/** A Trainer that lives in a worker. */
export interface RemoteTrainer {
  readonly steps: number;
  step(inputs: Batch, options?: { lr?: Rate }): Promise<Results>;
  accumulate(batches: readonly Batch[], options?: { lr?: Rate }): Promise<Results>;
  evaluate(inputs: Batch): Promise<Results>;
  predict(inputs: Batch): Promise<Record<string, Tensor>>;
  restore(checkpoint: Uint8Array): Promise<void>;
  save(): Promise<Uint8Array>;
  export(): Promise<Exported>;
  dispose(): Promise<void>;
}

/** Opens a bundle in a worker that runs `serve`. */
export async function connect(worker: Worker, source: Source, options: Omit<Options, "ort"> = {}): Promise<RemoteTrainer> {
  const waiting = new Map<number, { resolve: (value: never) => void; reject: (error: Error) => void }>();
  let last = 0;
  const remote = { steps: 0 } as Record<string, unknown> & { steps: number };
  worker.addEventListener("message", (event: MessageEvent) => {
    const { id, value, steps, error } = event.data as Answer;
    const call = waiting.get(id);
    waiting.delete(id);
    if (steps !== undefined) remote.steps = steps;
    if (error) call?.reject(new GradportError(error.code, error.message));
    else call?.resolve(value as never);
  });
  worker.addEventListener("error", (event) => {
    for (const call of waiting.values()) call.reject(new GradportError("runtime", `The worker fails: ${event.message}`));
    waiting.clear();
  });
  const ready = new Promise<void>((resolve, reject) => {
    waiting.set(0, { resolve: resolve as (value: never) => void, reject });
  });
  worker.postMessage({ id: 0, method: READY, args: [] });
  const ask = (method: string, ...args: unknown[]) =>
    new Promise((resolve, reject) => {
      const id = ++last;
      waiting.set(id, { resolve: resolve as (value: never) => void, reject });
      worker.postMessage({ id, method, args });
    });
  for (const method of ["step", "accumulate", "evaluate", "predict", "restore", "save", "export", "dispose"]) {
    remote[method] = (...args: unknown[]) => ask(method, ...args);
  }
  const place = typeof source === "string" ? new URL(source, location.href).href : source;
  await ready;
  await ask("open", place, options);
  return remote as unknown as RemoteTrainer;
}
