/** A line chart over steps with two lines, as SVG: the visitor's drawings, and real digits. */

import { make, makeSvg } from "./elements";

export interface Point {
  step: number;
  own: number;
  real: number;
}

interface Scale {
  /** The upper end of the axis for the largest value that is shown. */
  top(most: number): number;
  label(value: number): string;
}

const [WIDTH, HEIGHT] = [320, 134];
const PLOT = { left: 38, right: 312, top: 10, bottom: 110 };
const LINES = ["real", "own"] as const;
/** Steps that an axis shows at least, so that the first training fills it from left to right. */
const LEAST_STEPS = 40;

export class Chart {
  private readonly picture = makeSvg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
  private readonly values = { own: make("b"), real: make("b") };

  constructor(
    where: HTMLElement,
    private readonly title: string,
    private readonly scale: Scale,
  ) {
    const legend = make(
      "p",
      "legend",
      make("span", "key own", "Yours ", this.values.own),
      make("span", "key real", "Unseen digits ", this.values.real),
    );
    where.append(make("h3", "", title), legend, this.picture);
    this.show([]);
  }

  show(points: readonly Point[]): void {
    const most = Math.max(0, ...points.flatMap(({ own, real }) => [own, real]));
    const [top, end] = [this.scale.top(most), Math.max(LEAST_STEPS, points.at(-1)?.step ?? 0)];
    const x = (step: number) => PLOT.left + ((PLOT.right - PLOT.left) * step) / end;
    const y = (value: number) => PLOT.bottom - ((PLOT.bottom - PLOT.top) * value) / top;
    this.picture.replaceChildren();
    for (const value of [0, top / 2, top]) {
      this.picture.append(makeSvg("line", { x1: PLOT.left, x2: PLOT.right, y1: y(value), y2: y(value), class: "grid" }));
      this.write(PLOT.left - 6, y(value) + 4, "end", this.scale.label(value));
    }
    for (const step of [0, end / 2, end]) {
      const anchor = step === 0 ? "start" : step === end ? "end" : "middle";
      this.write(x(step), HEIGHT - 8, anchor, step === end ? `step ${end}` : String(Math.round(step)));
    }
    for (const line of LINES) {
      const places = points.map((point) => `${x(point.step).toFixed(1)},${y(Math.min(point[line], top)).toFixed(1)}`);
      this.picture.append(makeSvg("polyline", { points: places.join(" "), class: `line ${line}` }));
    }
    this.name(points.at(-1));
  }

  private name(last: Point | undefined): void {
    for (const line of LINES) this.values[line].textContent = last ? this.scale.label(last[line]) : "–";
    const now = last
      ? `${this.scale.label(last.own)} for your drawings, ${this.scale.label(last.real)} for unseen digits after step ${last.step}`
      : "nothing measured yet";
    this.picture.setAttribute("aria-label", `${this.title}: ${now}`);
  }

  private write(x: number, y: number, anchor: string, text: string): void {
    const made = makeSvg("text", { x, y, "text-anchor": anchor });
    made.textContent = text;
    this.picture.append(made);
  }
}
