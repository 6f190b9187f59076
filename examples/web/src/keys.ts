/** Drawing with the keyboard: arrows move a pen, the space bar lowers and lifts it, a digit labels, Escape clears. */

import { type Drawing } from "./drawing";

const STEP = 0.04;
const ARROWS: Record<string, readonly [number, number]> = {
  ArrowLeft: [-STEP, 0],
  ArrowRight: [STEP, 0],
  ArrowUp: [0, -STEP],
  ArrowDown: [0, STEP],
};

export function drawWithKeys(
  surface: SVGSVGElement,
  pen: SVGCircleElement,
  drawing: Drawing,
  label: (digit: number) => void,
): void {
  let [x, y, down] = [0.5, 0.2, false];
  const lower = (lowered: boolean) => {
    down = lowered;
    pen.classList.toggle("down", down);
    if (down) drawing.begin(x, y);
    else drawing.end();
  };
  const move = ([alongX, alongY]: readonly [number, number]) => {
    const inside = (value: number) => Math.round(Math.min(1, Math.max(0, value)) * 1000) / 1000;
    [x, y] = [inside(x + alongX), inside(y + alongY)];
    pen.setAttribute("cx", String(x * 100));
    pen.setAttribute("cy", String(y * 100));
    if (down) drawing.extend(x, y);
  };
  surface.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const arrow = ARROWS[event.key];
    if (arrow) move(arrow);
    else if (event.key === " ") lower(!down);
    else if (event.key === "Escape") {
      lower(false);
      drawing.clear();
    } else if (/^[0-9]$/.test(event.key)) {
      lower(false);
      label(Number(event.key));
    } else return;
    event.preventDefault();
  });
  surface.addEventListener("blur", () => down && lower(false));
}
