/** One error class. Its code is the same in every language. */

export type Code =
  | "file-missing"
  | "file-damaged"
  | "path-outside"
  | "manifest-invalid"
  | "format-newer"
  | "shape-invalid"
  | "state-differs"
  | "other-bundle"
  | "input-missing"
  | "input-unknown"
  | "input-dtype"
  | "input-shape"
  | "model-missing"
  | "not-finite"
  | "runtime";

export class GradportError extends Error {
  /** The reason, for programs. */
  readonly code: Code;

  constructor(code: Code, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "GradportError";
    this.code = code;
  }
}
