/** Sizes as expressions: integers, names, + - * // % max min and parentheses. They are parsed, never run as code. */

import { GradportError } from "./errors.js";

export type Size = number | string;

const LONGEST = 1000;
const DEEPEST = 100;
const LARGEST = 2 ** 40;
const TOKEN = /\s*(?:(\d+)|([A-Za-z_]\w*)|(\/\/|[-+*%(),]))/y;

/** The shape that a list of sizes stands for; `known` has the sizes of named dimensions. */
export function shapeOf(sizes: readonly Size[], known: ReadonlyMap<string, number>): number[] {
  return sizes.map((size) => sizeOf(size, known));
}

export function sizeOf(size: Size, known: ReadonlyMap<string, number>): number {
  const value = typeof size === "number" ? size : new Parser(size, known).whole();
  if (!Number.isSafeInteger(value) || value < 0 || value > LARGEST) throw refusal(String(size));
  return value;
}

function refusal(text: string): GradportError {
  return new GradportError("shape-invalid", `${JSON.stringify(text.slice(0, 80))} is not a size.`);
}

class Parser {
  private at = 0;
  private depth = 0;
  private token = "";
  private kind: "integer" | "name" | "symbol" | "end" = "end";

  constructor(
    private readonly text: string,
    private readonly known: ReadonlyMap<string, number>,
  ) {
    if (text.length > LONGEST) throw refusal(text);
    this.advance();
  }

  whole(): number {
    const value = this.sum();
    if (this.kind !== "end") throw refusal(this.text);
    return value;
  }

  private sum(): number {
    let value = this.product();
    while (this.token === "+" || this.token === "-") {
      value = this.take() === "+" ? value + this.product() : value - this.product();
      this.bound(value);
    }
    return value;
  }

  private product(): number {
    let value = this.factor();
    while (this.token === "*" || this.token === "//" || this.token === "%") {
      const operator = this.take();
      const other = this.factor();
      if (operator === "*") value *= other;
      else if (other === 0) throw refusal(this.text);
      else value = operator === "//" ? Math.floor(value / other) : value - other * Math.floor(value / other);
      this.bound(value);
    }
    return value;
  }

  private factor(): number {
    if (++this.depth > DEEPEST) throw refusal(this.text);
    const value = this.atom();
    this.depth -= 1;
    return value;
  }

  private atom(): number {
    const kind = this.kind;
    const token = this.take();
    if (kind === "integer") return this.bound(Number(token));
    if (kind === "name" && (token === "max" || token === "min")) {
      const values = this.list();
      return token === "max" ? Math.max(...values) : Math.min(...values);
    }
    if (kind === "name") {
      const value = this.known.get(token);
      if (value === undefined) throw refusal(this.text);
      return value;
    }
    if (token === "-") return -this.factor();
    if (token === "(") {
      const value = this.sum();
      this.expect(")");
      return value;
    }
    throw refusal(this.text);
  }

  private list(): number[] {
    this.expect("(");
    const values = [this.sum()];
    while (this.token === ",") {
      this.take();
      values.push(this.sum());
    }
    this.expect(")");
    if (values.length < 2) throw refusal(this.text);
    return values;
  }

  private bound(value: number): number {
    if (Math.abs(value) > LARGEST) throw refusal(this.text);
    return value;
  }

  private expect(symbol: string): void {
    if (this.take() !== symbol) throw refusal(this.text);
  }

  private take(): string {
    const token = this.token;
    this.advance();
    return token;
  }

  private advance(): void {
    TOKEN.lastIndex = this.at;
    const match = TOKEN.exec(this.text);
    if (!match) {
      if (this.text.slice(this.at).trim()) throw refusal(this.text);
      [this.token, this.kind] = ["", "end"];
      return;
    }
    this.at = TOKEN.lastIndex;
    this.kind = match[1] !== undefined ? "integer" : match[2] !== undefined ? "name" : "symbol";
    this.token = match[1] ?? match[2] ?? match[3]!;
  }
}
