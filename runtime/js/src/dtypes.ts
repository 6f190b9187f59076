/** Dtypes of ports, and the arrays that hold them. */

import { GradportError } from "./errors.js";

export type Values =
  | Float32Array
  | Float64Array
  | Int8Array
  | Int16Array
  | Int32Array
  | Uint8Array
  | Uint16Array
  | BigInt64Array;

export type Dtype = "float16" | "float32" | "float64" | "int8" | "int16" | "int32" | "int64" | "uint8" | "bool";

interface Kind {
  readonly array: new (length: number) => Values;
  readonly view: new (buffer: ArrayBufferLike, offset: number, length: number) => Values;
  readonly bytes: number;
  /** The dtype's name in a safetensors header. */
  readonly stored: string;
}

function kind(array: unknown, bytes: number, stored: string): Kind {
  return { array, view: array, bytes, stored } as Kind;
}

export const DTYPES: Record<Dtype, Kind> = {
  float16: kind(Uint16Array, 2, "F16"),
  float32: kind(Float32Array, 4, "F32"),
  float64: kind(Float64Array, 8, "F64"),
  int8: kind(Int8Array, 1, "I8"),
  int16: kind(Int16Array, 2, "I16"),
  int32: kind(Int32Array, 4, "I32"),
  int64: kind(BigInt64Array, 8, "I64"),
  uint8: kind(Uint8Array, 1, "U8"),
  bool: kind(Uint8Array, 1, "BOOL"),
};

export function dtypeOf(name: unknown): Dtype {
  if (typeof name === "string" && Object.hasOwn(DTYPES, name)) return name as Dtype;
  throw new GradportError("manifest-invalid", `${String(name)} is not a dtype of a bundle.`);
}

/** The nearest float16 number as its bits; ties go to even. */
export function float16Bits(value: number): number {
  const float = new Float32Array([value]);
  const bits = new Uint32Array(float.buffer)[0]!;
  const sign = (bits >>> 16) & 0x8000;
  const exponent = (bits >>> 23) & 0xff;
  let mantissa = bits & 0x7fffff;
  if (exponent === 0xff) return sign | 0x7c00 | (mantissa ? 0x200 : 0);
  const shifted = exponent - 112;
  if (shifted >= 31) return sign | 0x7c00;
  if (shifted <= 0) {
    if (shifted < -10) return sign;
    mantissa |= 0x800000;
    const drop = 14 - shifted;
    const half = mantissa >>> drop;
    const rest = mantissa & ((1 << drop) - 1);
    const middle = 1 << (drop - 1);
    return sign | (half + (rest > middle || (rest === middle && half & 1) ? 1 : 0));
  }
  const half = (shifted << 10) | (mantissa >>> 13);
  const rest = mantissa & 0x1fff;
  return sign | (half + (rest > 0x1000 || (rest === 0x1000 && half & 1) ? 1 : 0));
}
