/** safetensors files, read and written: eight bytes of length, a JSON header, then the tensors' bytes. */

import { DTYPES, type Dtype, type Values } from "./dtypes.js";
import { GradportError } from "./errors.js";

export interface Stored {
  dtype: Dtype;
  shape: number[];
  data: Values;
}

export interface File {
  tensors: Map<string, Stored>;
  metadata: Record<string, string>;
}

const BY_STORED = new Map(Object.entries(DTYPES).map(([name, kind]) => [kind.stored, name as Dtype]));

export function readSafetensors(bytes: Uint8Array, source: string): File {
  const damaged = (why: string) => new GradportError("file-damaged", `${source} is not a whole safetensors file: ${why}.`);
  if (bytes.byteLength < 8) throw damaged("it is too short");
  const length = Number(new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, true));
  if (length > bytes.byteLength - 8) throw damaged("its header is longer than the file");
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(8, 8 + length)));
  } catch {
    throw damaged("its header is not JSON");
  }
  if (typeof header !== "object" || header === null || Array.isArray(header)) throw damaged("its header is not an object");
  const tensors = new Map<string, Stored>();
  let metadata: Record<string, string> = {};
  for (const [name, entry] of Object.entries(header as Record<string, unknown>)) {
    if (name === "__metadata__") metadata = entry as Record<string, string>;
    else tensors.set(name, tensorOf(bytes.subarray(8 + length), name, entry, damaged));
  }
  return { tensors, metadata };
}

function tensorOf(body: Uint8Array, name: string, entry: unknown, damaged: (why: string) => Error): Stored {
  const { dtype: stored, shape, data_offsets: offsets } = (entry ?? {}) as Record<string, unknown>;
  const dtype = BY_STORED.get(stored as string);
  const whole = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
  if (dtype === undefined || !Array.isArray(shape) || !shape.every(whole)) throw damaged(`${name} has no dtype or shape`);
  const count = shape.reduce((product: number, size: number) => product * size, 1);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(whole)) throw damaged(`${name} has no offsets`);
  const [start, end] = offsets as [number, number];
  const kind = DTYPES[dtype];
  if (end - start !== count * kind.bytes || end > body.byteLength) throw damaged(`${name} has wrong offsets`);
  const copy = body.slice(start, end); // a copy starts at an aligned address
  return { dtype, shape, data: new kind.view(copy.buffer, copy.byteOffset, count) };
}

export function writeSafetensors(file: File): Uint8Array {
  const header: Record<string, unknown> = { __metadata__: file.metadata };
  let offset = 0;
  for (const [name, { dtype, shape, data }] of file.tensors) {
    header[name] = { dtype: DTYPES[dtype].stored, shape, data_offsets: [offset, offset + data.byteLength] };
    offset += data.byteLength;
  }
  let text = JSON.stringify(header);
  text += " ".repeat((8 - (new TextEncoder().encode(text).byteLength % 8)) % 8);
  const head = new TextEncoder().encode(text);
  const bytes = new Uint8Array(8 + head.byteLength + offset);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(head.byteLength), true);
  bytes.set(head, 8);
  let at = 8 + head.byteLength;
  for (const { data } of file.tensors.values()) {
    bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), at);
    at += data.byteLength;
  }
  return bytes;
}
