/** The image that the network sees, as pixels. */

import { SIZE } from "./ink";

export function showPreview(canvas: HTMLCanvasElement, image: Float32Array | undefined): void {
  const pixels = new ImageData(SIZE, SIZE);
  for (let at = 0; at < SIZE * SIZE; at++) {
    pixels.data.fill((image?.[at] ?? 0) * 255, 4 * at, 4 * at + 3);
    pixels.data[4 * at + 3] = 255;
  }
  canvas.getContext("2d")?.putImageData(pixels, 0, 0);
}
