/** Errors as one plain sentence. */

import { GradportError } from "gradport";

export function sentenceOf(error: unknown): string {
  if (error instanceof GradportError) {
    if (error.code === "not-finite") return "The training diverged. Press Undo, then train again.";
    if (error.code === "file-missing") return `The server lacks a file of the page: ${error.message}`;
    if (error.code === "other-bundle") return "The saved network belongs to another version of this page, so training starts anew.";
  }
  if (error instanceof DOMException && error.name === "QuotaExceededError") {
    return "The browser has no space left, so nothing was saved.";
  }
  const text = error instanceof Error ? error.message : String(error);
  return `That failed: ${text.split("\n")[0]!.slice(0, 200)}`;
}

/** Why a browser may refuse to save; the page works without. */
export const CANNOT_SAVE = "This browser does not let the page save, so a reload will forget your drawings.";
