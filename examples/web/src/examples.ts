/** The visitor's drawings with their digits. */

import { type Stroke } from "./ink";

export interface Example {
  readonly id: number;
  readonly label: number;
  readonly strokes: readonly Stroke[];
}

export class Examples {
  private rows: Example[] = [];
  private last = 0;

  /** `changed` is called after every change. */
  constructor(private readonly changed: () => void) {}

  get all(): readonly Example[] {
    return this.rows;
  }

  of(label: number): Example[] {
    return this.rows.filter((row) => row.label === label);
  }

  add(label: number, strokes: readonly Stroke[]): Example {
    const example = { id: ++this.last, label, strokes };
    this.replace([...this.rows, example]);
    return example;
  }

  remove(id: number): void {
    this.replace(this.rows.filter((row) => row.id !== id));
  }

  replace(rows: readonly Example[]): void {
    this.rows = [...rows];
    this.last = rows.reduce((most, row) => Math.max(most, row.id), this.last);
    this.changed();
  }
}
