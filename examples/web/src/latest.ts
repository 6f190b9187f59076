/** Runs `body` now, or once more when it is done if it was asked for meanwhile: a fast pen does not make a queue. */
export function latestOnly(body: () => Promise<void>): () => Promise<void> {
  let running: Promise<void> | undefined;
  let again = false;
  const run = async (): Promise<void> => {
    do {
      again = false;
      await body();
    } while (again);
  };
  return () => {
    again = true;
    running ??= run().finally(() => (running = undefined));
    return running;
  };
}
