/** The drawing: strokes that pointers or keys make, shown as an SVG path. */

import { pathOf, type Stroke } from "./ink";

export class Drawing {
  private list: Stroke[] = [];
  private current: Stroke | undefined;
  private done = false;

  /** `changed` is called after every change of the strokes. */
  constructor(
    private readonly surface: SVGSVGElement,
    private readonly path: SVGPathElement,
    private readonly changed: () => void,
  ) {}

  get strokes(): readonly Stroke[] {
    return this.list;
  }

  begin(x: number, y: number): void {
    if (this.done) this.list = [];
    this.markDone(false);
    this.current = [x, y];
    this.list = [...this.list, this.current];
    this.show();
  }

  extend(x: number, y: number): void {
    if (!this.current) return;
    this.current.push(x, y);
    this.show();
  }

  end(): void {
    this.current = undefined;
  }

  /** Keeps the drawing in sight; the next stroke starts a new one. */
  finish(): void {
    this.end();
    this.markDone(true);
  }

  clear(): void {
    this.end();
    this.list = [];
    this.markDone(false);
    this.show();
  }

  private markDone(done: boolean): void {
    this.done = done;
    this.surface.classList.toggle("done", done);
  }

  private show(): void {
    this.path.setAttribute("d", pathOf(this.list));
    this.changed();
  }
}

/** Mouse, finger and pen. */
export function drawWithPointers(surface: SVGSVGElement, drawing: Drawing): void {
  const place = (event: PointerEvent): [number, number] => {
    const box = surface.getBoundingClientRect();
    const inside = (value: number) => Math.round(Math.min(1, Math.max(0, value)) * 1000) / 1000;
    return [inside((event.clientX - box.left) / box.width), inside((event.clientY - box.top) / box.height)];
  };
  surface.addEventListener("pointerdown", (event) => {
    if (!event.isPrimary || event.button !== 0) return;
    surface.setPointerCapture(event.pointerId);
    drawing.begin(...place(event));
  });
  surface.addEventListener("pointermove", (event) => {
    if (!event.isPrimary) return;
    // A browser hands out one event a frame; the points between make the curve smooth.
    const events = event.getCoalescedEvents();
    for (const one of events.length ? events : [event]) drawing.extend(...place(one));
  });
  for (const end of ["pointerup", "pointercancel"] as const) {
    surface.addEventListener(end, (event) => event.isPrimary && drawing.end());
  }
}
