/** What the page keeps in the browser between two visits: drawings, the chart and the state of the network. */

import { forget, recall, store } from "gradport";

import { type Example } from "./examples";
import { type Measured } from "./training";

const DRAWINGS = "gradport-digits.json";
const NETWORK = "gradport-digits.safetensors";

export interface Saved {
  examples: Example[];
  history: Measured[];
}

/** One write after another: two at once could leave a mixture. */
let queue: Promise<void> = Promise.resolve();

function next(write: () => Promise<void>): Promise<void> {
  queue = queue.catch(() => undefined).then(write);
  return queue;
}

export function saveDrawings(saved: Saved): Promise<void> {
  return next(() => store(DRAWINGS, new TextEncoder().encode(JSON.stringify(saved))));
}

export function saveNetwork(checkpoint: Uint8Array): Promise<void> {
  return next(() => store(NETWORK, checkpoint));
}

export async function recallDrawings(): Promise<Saved | undefined> {
  const bytes = await recall(DRAWINGS);
  return bytes && (JSON.parse(new TextDecoder().decode(bytes)) as Saved);
}

export function recallNetwork(): Promise<Uint8Array | undefined> {
  return recall(NETWORK);
}

export function forgetAll(): Promise<void> {
  return next(async () => {
    await forget(DRAWINGS);
    await forget(NETWORK);
  });
}
