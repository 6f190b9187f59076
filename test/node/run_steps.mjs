// Trains in Node: node run_steps.mjs PACKAGE MODEL STATE FEEDS prints the loss of every step as a JSON list.
//
// PACKAGE is onnxruntime-node or onnxruntime-web, STATE the safetensors file beside the model, and FEEDS a JSON list of
// {name: {dtype, dims, data}}, one entry a step. `new.<s>` of one run is `<s>` of the next.

import { readFileSync } from "node:fs";

const [packageName, modelPath, statePath, feedsPath] = process.argv.slice(2);
const ort = await import(packageName);
if (ort.env?.wasm) {
  ort.env.wasm.numThreads = 1;
}

const ARRAYS = { F32: ["float32", Float32Array], F64: ["float64", Float64Array], I64: ["int64", BigInt64Array] };

/** The tensors of a safetensors file by name: 8 bytes of header length, a JSON header, the data. */
function readState(path) {
  const bytes = readFileSync(path);
  const length = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString("utf8", 8, 8 + length));
  const tensors = {};
  for (const [name, { dtype, shape, data_offsets: offsets }] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const [type, ArrayType] = ARRAYS[dtype];
    const data = bytes.subarray(8 + length + offsets[0], 8 + length + offsets[1]);
    tensors[name] = new ort.Tensor(type, new ArrayType(Uint8Array.from(data).buffer), shape);
  }
  return tensors;
}

function toTensor({ dtype, dims, data }) {
  return dtype === "int64"
    ? new ort.Tensor("int64", BigInt64Array.from(data.map(BigInt)), dims)
    : new ort.Tensor("float32", Float32Array.from(data), dims);
}

const session = await ort.InferenceSession.create(new Uint8Array(readFileSync(modelPath)), {
  executionProviders: [packageName === "onnxruntime-web" ? "wasm" : "cpu"],
});
let state = readState(statePath);
const losses = [];
for (const feed of JSON.parse(readFileSync(feedsPath, "utf8"))) {
  const given = Object.fromEntries(Object.entries(feed).map(([name, value]) => [name, toTensor(value)]));
  const results = await session.run({ ...state, ...given });
  losses.push(results.loss.data[0]);
  state = Object.fromEntries(
    Object.entries(results)
      .filter(([name]) => name.startsWith("new."))
      .map(([name, value]) => [name.slice(4), value]),
  );
}
console.log(JSON.stringify(losses));
