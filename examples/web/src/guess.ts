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
    list: HTMLElement,
    private readonly sentence: HTMLElement,
    chosen: (digit: number) => void,
  ) {
    this.rows = Array.from({ length: 10 }, (_, digit) => {
      const bar = make("span", "bar-fill");
      const percent = make("span", "percent");
      const button = make("button", "digit", make("b", "", String(digit)), make("span", "bar", bar), percent);
      button.type = "button";
      button.addEventListener("click", () => chosen(digit));
      list.append(make("li", "", button));
      return { button, bar, percent };
    });
    this.show(undefined);
  }

  /** Shows probabilities; undefined where there is no drawing. */
  show(probabilities: readonly number[] | undefined): void {
    const most = probabilities ? Math.max(...probabilities) : NaN;
    this.rows.forEach(({ button, bar, percent }, digit) => {
      const probability = probabilities?.[digit] ?? 0;
      bar.style.setProperty("--share", String(probability));
      percent.textContent = probabilities ? percentOf(probability) : "";
      button.classList.toggle("top", probability === most);
      button.disabled = !probabilities;
      button.setAttribute("aria-label", `This is a ${digit}${probabilities ? `, guessed with ${percentOf(probability)}` : ""}`);
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

export function percentOf(share: number): string {
  return `${Math.round(share * 100)}%`;
}
