/** Ten rows: a digit, a bar of its probability, and a button that says that the drawing is this digit. */

import { make } from "./elements";

interface Row {
  button: HTMLButtonElement;
  bar: HTMLElement;
  percent: HTMLElement;
}

export class Guess {
  private readonly rows: Row[];

  constructor(
    private readonly list: HTMLElement,
    private readonly sentence: HTMLElement,
    chosen: (digit: number) => void,
  ) {
    this.rows = Array.from({ length: 10 }, (_, digit) => {
      const bar = make("span", "bar-fill");
      const percent = make("span", "percent");
      const name = [hidden("This is a "), make("b", "", String(digit)), hidden(", guessed with ")];
      const button = make("button", "digit", ...name, make("span", "bar", bar), percent);
      button.type = "button";
      button.addEventListener("click", () => chosen(digit));
      list.append(make("li", "", button));
      return { button, bar, percent };
    });
    this.show(undefined);
  }

  /** Says that the rows are about to change. */
  wait(): void {
    this.list.setAttribute("aria-busy", "true");
  }

  /** Shows probabilities; undefined where there is no drawing. */
  show(probabilities: readonly number[] | undefined): void {
    this.list.setAttribute("aria-busy", "false");
    const most = probabilities ? Math.max(...probabilities) : NaN;
    this.rows.forEach(({ button, bar, percent }, digit) => {
      const probability = probabilities?.[digit] ?? 0;
      bar.style.setProperty("--share", String(probability));
      percent.textContent = probabilities ? percentOf(probability) : "";
      button.classList.toggle("top", probability === most);
      button.disabled = !probabilities;
    });
    const text = probabilities
      ? `Looks like a ${probabilities.indexOf(most)} (${percentOf(most)})`
      : "Draw a digit first";
    // Writing the same text again would make a screen reader say it again.
    if (this.sentence.textContent !== text) this.sentence.textContent = text;
  }

  /** Marks the digit that the visitor gave to the drawing. */
  mark(label: number | undefined): void {
    this.rows.forEach(({ button }, digit) => button.setAttribute("aria-pressed", String(digit === label)));
  }
}

/** Words for screen readers, which do not see the row of the digit. */
function hidden(text: string): HTMLElement {
  return make("span", "hidden", text);
}

export function percentOf(share: number): string {
  return `${Math.round(share * 100)}%`;
}
