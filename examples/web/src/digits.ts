/** The real digits that make_bundle.py chose: some to train with, others to validate with. */

import { readSafetensors } from "gradport";

import { type Labelled } from "./images";
import { SIZE } from "./ink";

export interface Digits {
  rehearsal: Labelled[];
  validation: Labelled[];
}

export async function loadDigits(): Promise<Digits> {
  const name = "digits.safetensors";
  const response = await fetch(name);
  if (!response.ok) throw new Error(`${name} is missing on the server.`);
  const { tensors } = readSafetensors(new Uint8Array(await response.arrayBuffer()), name);
  const labelled = (part: string): Labelled[] => {
    const images = Float32Array.from(tensors.get(`${part}.images`)!.data as Uint8Array, (value) => value / 255);
    const labels = tensors.get(`${part}.labels`)!.data as Uint8Array;
    const pixels = SIZE * SIZE;
    return Array.from(labels, (label, at) => ({ image: images.subarray(at * pixels, (at + 1) * pixels), label }));
  };
  return { rehearsal: labelled("rehearsal"), validation: labelled("validation") };
}
