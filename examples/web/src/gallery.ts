/** The visitor's drawings as thumbnails, grouped by digit; a press deletes one. */

import { make, makeSvg } from "./elements";
import { type Example, type Examples } from "./examples";
import { pathOf } from "./ink";

export function showExamples(where: HTMLElement, examples: Examples): void {
  const focused = [...where.querySelectorAll("button")].findIndex((button) => button === document.activeElement);
  const groups = Array.from({ length: 10 }, (_, digit) => groupOf(digit, examples)).filter((group) => group !== undefined);
  where.replaceChildren(...groups);
  if (focused < 0) return;
  // The button with the focus was deleted: its neighbour takes over, so that the keyboard stays where it was.
  const left = where.querySelectorAll("button");
  (left[Math.min(focused, left.length - 1)] ?? where).focus();
}

function groupOf(digit: number, examples: Examples): HTMLElement | undefined {
  const rows = examples.of(digit);
  if (rows.length === 0) return undefined;
  const list = make("ul", "thumbnails", ...rows.map((row, at) => make("li", "", thumbnailOf(row, at + 1, examples))));
  list.setAttribute("aria-label", `Drawings of ${digit}`);
  return make("div", "group", make("b", "group-digit", String(digit)), list);
}

function thumbnailOf(example: Example, number: number, examples: Examples): HTMLElement {
  const picture = makeSvg("svg", { viewBox: "-6 -6 112 112", "aria-hidden": "true" });
  picture.append(makeSvg("path", { d: pathOf(example.strokes), class: "ink" }));
  const cross = make("span", "cross", "×");
  cross.setAttribute("aria-hidden", "true");
  const button = make("button", "thumbnail", picture, cross);
  button.type = "button";
  button.title = "Delete this drawing";
  button.setAttribute("aria-label", `Delete drawing ${number} of ${example.label}`);
  button.addEventListener("click", () => examples.remove(example.id));
  return button;
}
