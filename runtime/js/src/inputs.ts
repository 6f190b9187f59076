/** Tensors that are given for the inputs of a model, checked. */

import type { Port } from "./bundle.js";
import { DTYPES, float16Bits, type Values } from "./dtypes.js";
import { GradportError } from "./errors.js";
import type { Ort, Tensor } from "./ort.js";

/** A tensor, data with sizes, or a flat list for an input of one dimension. */
export type Given =
  | Tensor
  | { data: ArrayLike<number> | ArrayLike<bigint>; dims: readonly number[] }
  | ArrayLike<number>
  | ArrayLike<bigint>
  | number;

export type Batch = Record<string, Given>;

/** A tensor for each port, and the sizes of the named dimensions. */
export function tensorsOf(
  ort: Ort,
  ports: readonly Port[],
  given: Batch,
  model: string,
): { feeds: Record<string, Tensor>; sizes: Map<string, number> } {
  const names = ports.map((port) => port.name);
  const missing = names.filter((name) => !Object.hasOwn(given, name));
  if (missing.length) {
    throw new GradportError("input-missing", `${model} takes ${names.join(", ")}: ${missing.join(", ")} is missing.`);
  }
  for (const name of Object.keys(given)) {
    if (!names.includes(name)) {
      throw new GradportError("input-unknown", `${model} takes ${names.join(", ")}: '${name}' is unknown.`);
    }
  }
  const feeds: Record<string, Tensor> = {};
  const sizes = new Map<string, number>();
  for (const port of ports) {
    const tensor = tensorOf(ort, port, given[port.name]!);
    requireShape(port, tensor.dims, sizes, model);
    feeds[port.name] = tensor;
  }
  return { feeds, sizes };
}

export function makeTensor(ort: Ort, port: Port, data: Values, dims: readonly number[]): Tensor {
  return new ort.Tensor(port.dtype as never, data as never, dims);
}

function tensorOf(ort: Ort, port: Port, given: Given): Tensor {
  if (typeof given === "object" && "dims" in given && "type" in given) {
    if (given.type !== port.dtype) throw wrongDtype(port, given.type);
    return given;
  }
  const whole = typeof given === "number" ? { data: [given], dims: [] } : given;
  const data = "dims" in whole ? whole.data : whole;
  const dims = "dims" in whole ? whole.dims : [data.length];
  const count = dims.reduce((product, size) => product * size, 1);
  if (data.length !== count) {
    throw new GradportError("input-shape", `'${port.name}' has ${data.length} numbers for the shape [${dims}].`);
  }
  return makeTensor(ort, port, valuesOf(port, data), dims);
}

function valuesOf(port: Port, data: ArrayLike<number> | ArrayLike<bigint>): Values {
  const kind = DTYPES[port.dtype];
  if (data instanceof kind.array && port.dtype !== "float16") return data;
  if (port.dtype === "float16" && data instanceof Uint16Array) return data; // the bits of float16 numbers
  const floating = port.dtype.startsWith("float");
  const values = new kind.array(data.length);
  for (let at = 0; at < data.length; at++) {
    const value = data[at]!;
    if (!floating && typeof value === "number" && !Number.isInteger(value)) throw wrongDtype(port, "float");
    if (port.dtype === "int64") values[at] = BigInt(value);
    else if (port.dtype === "float16") values[at] = float16Bits(Number(value));
    else values[at] = Number(value);
  }
  return values;
}

function wrongDtype(port: Port, found: string): GradportError {
  return new GradportError("input-dtype", `'${port.name}' is ${found}; it takes ${port.dtype}.`);
}

function requireShape(port: Port, dims: readonly number[], sizes: Map<string, number>, model: string): void {
  const fits =
    dims.length === port.shape.length &&
    port.shape.every((size, at) => {
      if (typeof size === "number") return dims[at] === size;
      if (!/^[A-Za-z_]\w*$/.test(size)) return true;
      if (!sizes.has(size)) sizes.set(size, dims[at]!);
      return dims[at] === sizes.get(size);
    });
  if (fits) return;
  const wanted = port.shape.map((size) => (sizes.has(String(size)) ? `${size}=${sizes.get(String(size))}` : size));
  throw new GradportError("input-shape", `'${port.name}' has the shape [${dims}]; ${model} takes [${wanted}].`);
}
