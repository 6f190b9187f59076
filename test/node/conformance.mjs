// Runs the conformance folder: node conformance.mjs RUNTIME FOLDER PACKAGE; prints what it finds as JSON.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [runtime, folder, packageFile] = process.argv.slice(2);
const ort = await import(runtime);
const { Trainer, draw } = await import(pathToFileURL(packageFile).href);
if (ort.env.wasm) ort.env.wasm.numThreads = 1;
const options = { ort: ort.default ?? ort };
const json = (name) => JSON.parse(readFileSync(join(folder, `${name}.json`), "utf8"));
const { seed, batches } = json("steps");

const batch = ({ x, target }) => ({ x: { data: x.flat(), dims: [x.length, 4] }, target });
const trainer = await Trainer.load(join(folder, "bundle"), { ...options, seed });
const results = [];
for (const one of batches) results.push(await trainer.step(batch(one)));
const last = batch(batches.at(-1));
const evaluated = await trainer.evaluate(last);
const { output } = await trainer.predict({ x: last.x });
const { loss: accumulated } = await trainer.accumulate(batches.slice(0, 2).map(batch));

const { place, draws } = json("draws");
const where = { seed: BigInt(place.seed), step: place.step, microBatch: place.micro_batch, rank: place.rank };
const drawn = draws.map((one) => [...draw(one.distribution, one.values.length, one.dtype, one.number, where)]);

const names = readdirSync(join(folder, "bundle"));
const whole = Object.fromEntries(names.map((name) => [name, new Uint8Array(readFileSync(join(folder, "bundle", name)))]));
const codes = [];
for (const change of json("broken")) {
  const files = { ...whole };
  if (change.file) {
    const bytes = files[change.file];
    files[change.file] = bytes.slice(0, change.keep < 0 ? bytes.length + change.keep : change.keep);
  } else {
    const manifest = JSON.parse(new TextDecoder().decode(files["training.json"]));
    const at = change.path.slice(0, -1).reduce((value, key) => value[key], manifest);
    if ("value" in change) at[change.path.at(-1)] = change.value;
    else delete at[change.path.at(-1)];
    files["training.json"] = new TextEncoder().encode(JSON.stringify(manifest));
  }
  codes.push(await Trainer.load(files, options).then(() => "none", (error) => error.code));
}
console.log(JSON.stringify({ results, evaluated, outputs: [...output.data], accumulated, drawn, codes }));
