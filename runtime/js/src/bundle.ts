/** A bundle: the manifest `training.json`, checked, and a reader of the files beside it. */

import { dtypeOf, type Dtype } from "./dtypes.js";
import type { Distribution } from "./draws.js";
import { GradportError } from "./errors.js";
import type { Size } from "./shapes.js";

export const FORMAT = 1;

export interface Port {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly Size[];
  readonly role: string;
  readonly of: string;
}

export interface Model {
  readonly name: string;
  readonly file: string;
  readonly inputs: readonly Port[];
  readonly outputs: readonly Port[];
  readonly draws: readonly { name: string; distribution: Distribution }[];
  readonly frozen?: string;
  readonly data?: { bytes: number; tensors: { name: string; offset: number }[] };
}

export interface Bundle {
  readonly identity: string;
  readonly models: ReadonlyMap<string, Model>;
  readonly state: ReadonlyMap<string, Port>;
  readonly schedule: ReadonlyMap<string, readonly number[]>;
  /** Whether apply.onnx skips a step that is not finite; then a loss that is not finite is not an error. */
  readonly skips: boolean;
}

/** Files by name, or where they lie: an URL, or in Node a path. */
export type Source = string | URL | Record<string, Uint8Array>;

export interface Files {
  read(name: string): Promise<Uint8Array>;
  /** The path of a file on this machine; undefined where files come over the network or from memory. */
  path(name: string): string | undefined;
}

export async function filesOf(source: Source): Promise<Files> {
  if (typeof source === "object" && !(source instanceof URL)) return inMemory(source);
  const text = String(source);
  const node = typeof process !== "undefined" && Boolean(process.versions?.node);
  if (!node || /^(https?|blob|data):/.test(text)) return overNetwork(text);
  return onDisk(text);
}

declare const process: { versions?: { node?: string } } | undefined;

function missing(name: string): GradportError {
  return new GradportError("file-missing", `${name}: file not found.`);
}

function inMemory(files: Record<string, Uint8Array>): Files {
  return {
    read: async (name) => {
      if (!Object.hasOwn(files, name)) throw missing(name);
      return files[name]!;
    },
    path: () => undefined,
  };
}

function overNetwork(base: string): Files {
  const root = new URL(base.endsWith("/") ? base : `${base}/`, globalThis.location?.href);
  return {
    read: async (name) => {
      const response = await fetch(new URL(name, root));
      if (!response.ok) throw missing(new URL(name, root).href);
      return new Uint8Array(await response.arrayBuffer());
    },
    path: () => undefined,
  };
}

async function onDisk(folder: string): Promise<Files> {
  const name = "node:";
  const { readFile } = await import(`${name}fs/promises`);
  const { join } = await import(`${name}path`);
  const { fileURLToPath } = await import(`${name}url`);
  const root = folder.startsWith("file:") ? fileURLToPath(folder) : folder;
  return {
    read: async (file) => {
      try {
        return new Uint8Array(await readFile(join(root, file)));
      } catch {
        throw missing(join(root, file));
      }
    },
    path: (file) => join(root, file),
  };
}

/** Reads and checks the manifest. */
export async function readBundle(files: Files): Promise<Bundle> {
  const bytes = await files.read("training.json");
  let manifest: Record<string, unknown>;
  try {
    manifest = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    throw invalid("it is not JSON");
  }
  if (typeof manifest !== "object" || manifest === null || Array.isArray(manifest)) throw invalid("it is not an object");
  if (!Number.isInteger(manifest.format)) throw invalid("it has no format number");
  if ((manifest.format as number) > FORMAT) {
    throw new GradportError("format-newer", `The bundle has format ${manifest.format}; this package reads ${FORMAT}.`);
  }
  const models = new Map(entries(manifest.models).map(([name, entry]) => [name, modelOf(name, entry)]));
  for (const name of ["gradients", "apply"]) {
    if (!models.has(name)) throw new GradportError("model-missing", `The bundle has no model ${name}.`);
  }
  const state = new Map(list(manifest.state).map((entry) => portOf(entry)).map((port) => [port.name, port]));
  const schedule = new Map(entries(manifest.schedule).map(([name, values]) => [name, list(values) as number[]]));
  for (const values of schedule.values()) {
    if (!values.length || !values.every((value) => typeof value === "number")) throw invalid("a schedule has no value");
  }
  if (typeof manifest.identity !== "string") throw invalid("it has no identity");
  return { identity: manifest.identity, models, state, schedule, skips: manifest.skips === true };
}

function modelOf(name: string, entry: unknown): Model {
  const fields = object(entry);
  const inputs = list(fields.inputs).map(portOf);
  const draws = list(fields.random ?? []).map((one) => {
    const { name: input, distribution } = object(one);
    if (!inputs.some((port) => port.name === input) || !["uniform", "normal"].includes(String(distribution))) {
      throw invalid(`the draw ${String(input)} is not a random input`);
    }
    return { name: String(input), distribution: distribution as Distribution };
  });
  const data = fields.data as Model["data"];
  const frozen = typeof fields.frozen === "string" ? { frozen: inside(fields.frozen) } : {};
  const outputs = list(fields.outputs).map(portOf);
  return { name, file: inside(fields.file), inputs, outputs, draws, ...frozen, ...(data && { data }) };
}

function inside(name: unknown): string {
  const outside = new GradportError("path-outside", `${JSON.stringify(name)} leads outside the bundle.`);
  if (typeof name !== "string" || !name || /[\\:\0]/.test(name) || name.startsWith("/")) throw outside;
  if (name.split("/").includes("..")) throw outside;
  return name;
}

function portOf(entry: unknown): Port {
  const { name, dtype, shape, role, of } = object(entry);
  if (typeof name !== "string" || typeof role !== "string") throw invalid("a port has no name or role");
  const sizes = list(shape);
  if (!sizes.every((size) => Number.isInteger(size) || typeof size === "string")) throw invalid(`${name} has no shape`);
  return { name, dtype: dtypeOf(dtype), shape: sizes as Size[], role, of: typeof of === "string" ? of : "" };
}

function object(value: unknown): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw invalid("an entry is not an object");
  return value as Record<string, unknown>;
}

function entries(value: unknown): [string, unknown][] {
  return Object.entries(object(value));
}

function list(value: unknown): unknown[] {
  if (!Array.isArray(value)) throw invalid("an entry is not a list");
  return value;
}

function invalid(reason: string): GradportError {
  return new GradportError("manifest-invalid", `training.json does not have the form of a bundle: ${reason}.`);
}
