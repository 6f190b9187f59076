// Trains a bundle: node train_bundle.mjs RUNTIME BUNDLE BATCHES PACKAGE; prints what the test compares, as JSON.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [runtime, bundle, file, packageFile] = process.argv.slice(2);
const ort = await import(runtime);
const { Trainer, readSafetensors } = await import(pathToFileURL(packageFile).href);
if (ort.env.wasm) ort.env.wasm.numThreads = 1;

const batches = JSON.parse(readFileSync(file, "utf8"), (_, value) => value);
const options = { ort: ort.default ?? ort, seed: 7 };
const trainer = await Trainer.load(bundle, options);
const losses = [];
for (const batch of batches.slice(0, -2)) losses.push((await trainer.step(batch)).loss);
const checkpoint = await trainer.save();
const resumed = await Trainer.load(bundle, { ...options, resume: checkpoint });
for (const batch of batches.slice(-2)) {
  const one = await trainer.step(batch);
  const other = await resumed.step(batch);
  if (one.loss !== other.loss) throw new Error(`resumed: ${other.loss}, not ${one.loss}`);
  losses.push(one.loss);
}
await resumed.restore(checkpoint);
const again = [];
for (const batch of batches.slice(-2)) again.push((await resumed.step(batch)).loss);
if (String(again) !== String(losses.slice(-2))) throw new Error(`restored: ${again}, not ${losses.slice(-2)}`);
const last = batches.at(-1);
const evaluated = await trainer.evaluate(last);
const outputs = await trainer.predict(Object.fromEntries(Object.entries(last).filter(([name]) => name !== "target")));
const halves = await Trainer.load(bundle, options);
await halves.apply(await halves.gradients(batches[0]));
const whole = await Trainer.load(bundle, options);
await whole.step(batches[0]);
const same = Object.entries(whole.state()).every(([name, tensor]) =>
  tensor.data.every((value, at) => Object.is(value, halves.state()[name].data[at])),
);
const codes = {};
for (const [what, change] of Object.entries({
  missing: () => ({}),
  unknown: (batch) => ({ ...batch, other: [1] }),
  shape: (batch) => ({ ...batch, target: [...batch.target.data ?? batch.target, 0] }),
})) {
  codes[what] = await trainer.step(change(batches[0])).then(() => "none", (error) => error.code);
}
const exported = await trainer.export();
const inference = { model: exported.model.length, data: exported.data.length, name: exported.dataName };
const first = Object.entries(outputs).map(([name, tensor]) => [name, [...tensor.data].slice(0, 8).map(Number)]);
const stored = readSafetensors(checkpoint, "it").tensors.size;
for (const one of [trainer, resumed, halves, whole]) await one.dispose();
console.log(JSON.stringify({ losses, evaluated, outputs: Object.fromEntries(first), same, codes, inference, stored }));
