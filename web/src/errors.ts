/** A failure that the user should read: what went wrong, and what to do about it. */
export class EdgeError extends Error {
  constructor(
    message: string,
    readonly hint = "",
  ) {
    super(message);
  }
}

/** A failure in words, whatever was thrown. */
export function told(error: unknown): { message: string; hint: string } {
  if (error instanceof EdgeError) return { message: error.message, hint: error.hint };
  return { message: error instanceof Error ? error.message : String(error), hint: "" };
}
