/** Strokes of a pen, and the image of them that the network sees. */

/** x and y of each point in turn, from 0 to 1. */
export type Stroke = number[];

/** A matrix `[a, b, c, d]` around the middle of the drawing, then a shift `[x, y]` in pixels. */
export interface Distortion {
  matrix: readonly [number, number, number, number];
  shift: readonly [number, number];
}

export const SIZE = 16;

// As in the digits that the network was pre-trained on: they touch the upper and the lower edge, and are narrower than high.
const HEIGHT = 13;
const WIDTH = 11;
const PEN_RADIUS = 1.3;
const PEN_SOFTNESS = 2;
/** A drawing smaller than this is a dot, which is not enlarged to the whole image. */
const SMALLEST = 0.1;

/** The image of a drawing, `SIZE` x `SIZE` from 0 to 1: centred, and scaled to one size. */
export function rasterise(strokes: readonly Stroke[], distortion?: Distortion): Float32Array {
  const placed = place(strokes, distortion);
  const image = new Float32Array(SIZE * SIZE);
  for (let y = 0; y < SIZE; y++) {
    for (let x = 0; x < SIZE; x++) {
      const distance = distanceTo(placed, x + 0.5, y + 0.5);
      image[y * SIZE + x] = Math.min(1, Math.max(0, 0.5 + (PEN_RADIUS - distance) / PEN_SOFTNESS));
    }
  }
  return image;
}

/** A small random distortion, as two drawings of one person differ. */
export function randomDistortion(random: () => number): Distortion {
  const between = (from: number, to: number) => from + (to - from) * random();
  const [angle, shear, scale] = [between(-0.2, 0.2), between(-0.2, 0.2), between(0.88, 1.08)];
  const [cos, sin] = [Math.cos(angle) * scale, Math.sin(angle) * scale];
  return { matrix: [cos, shear - sin, sin, cos], shift: [between(-1, 1), between(-1, 1)] };
}

/** The strokes as an SVG path in a square from 0 to 100. */
export function pathOf(strokes: readonly Stroke[]): string {
  return strokes
    .map((stroke) => {
      const points = [];
      for (let at = 0; at < stroke.length; at += 2) {
        points.push(`${(stroke[at]! * 100).toFixed(1)} ${(stroke[at + 1]! * 100).toFixed(1)}`);
      }
      // A line of no length makes the round cap of a single point visible.
      return `M${points[0]}L${points.slice(points.length > 1 ? 1 : 0).join(" ")}`;
    })
    .join("");
}

function place(strokes: readonly Stroke[], distortion?: Distortion): Stroke[] {
  let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
  for (const stroke of strokes) {
    for (let at = 0; at < stroke.length; at += 2) {
      [left, right] = [Math.min(left, stroke[at]!), Math.max(right, stroke[at]!)];
      [top, bottom] = [Math.min(top, stroke[at + 1]!), Math.max(bottom, stroke[at + 1]!)];
    }
  }
  const scale = Math.min(WIDTH / Math.max(right - left, SMALLEST), HEIGHT / Math.max(bottom - top, SMALLEST));
  const [middleX, middleY] = [(left + right) / 2, (top + bottom) / 2];
  const [a, b, c, d] = distortion?.matrix ?? [1, 0, 0, 1];
  const [shiftX, shiftY] = distortion?.shift ?? [0, 0];
  return strokes.map((stroke) => {
    const points: Stroke = [];
    for (let at = 0; at < stroke.length; at += 2) {
      const [x, y] = [(stroke[at]! - middleX) * scale, (stroke[at + 1]! - middleY) * scale];
      points.push(SIZE / 2 + a * x + b * y + shiftX, SIZE / 2 + c * x + d * y + shiftY);
    }
    return points;
  });
}

function distanceTo(strokes: readonly Stroke[], x: number, y: number): number {
  let least = Infinity;
  for (const stroke of strokes) {
    for (let at = 0; at < stroke.length; at += 2) {
      const [fromX, fromY] = [stroke[at]!, stroke[at + 1]!];
      const [alongX, alongY] = [(stroke[at + 2] ?? fromX) - fromX, (stroke[at + 3] ?? fromY) - fromY];
      const length = alongX * alongX + alongY * alongY;
      const share = length && Math.min(1, Math.max(0, ((x - fromX) * alongX + (y - fromY) * alongY) / length));
      least = Math.min(least, (x - fromX - share * alongX) ** 2 + (y - fromY - share * alongY) ** 2);
    }
  }
  return Math.sqrt(least);
}
