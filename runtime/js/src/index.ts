/** Trains a gradport bundle on onnxruntime-web or onnxruntime-node. */

export type { Source } from "./bundle.js";
export { type Distribution, draw, philox, type Place } from "./draws.js";
export { type Code, GradportError } from "./errors.js";
export type { Batches, FitOptions, History } from "./fitting.js";
export type { Batch, Given } from "./inputs.js";
export type { Ort, Tensor } from "./ort.js";
export { readSafetensors, writeSafetensors } from "./safetensors.js";
export { shapeOf, type Size } from "./shapes.js";
export { download, forget, recall, store } from "./storage.js";
export { type Exported, type Options, type Rate, type Results, Trainer } from "./trainer.js";
export { connect, type RemoteTrainer, serve } from "./worker.js";
