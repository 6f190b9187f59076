// Trains several bundles on the same batches: node train_many.mjs RUNTIME BATCHES PACKAGE BUNDLE...; prints all losses.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [runtime, file, packageFile, ...bundles] = process.argv.slice(2);
const ort = await import(runtime);
const { Trainer } = await import(pathToFileURL(packageFile).href);
if (ort.env.wasm) ort.env.wasm.numThreads = 1;
const batches = JSON.parse(readFileSync(file, "utf8"));
const losses = [];
for (const bundle of bundles) {
  const trainer = await Trainer.load(bundle, { ort: ort.default ?? ort });
  const own = [];
  for (const batch of batches) own.push((await trainer.step(batch)).loss);
  losses.push(own);
  await trainer.dispose();
}
console.log(JSON.stringify(losses));
