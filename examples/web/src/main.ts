/** The page: joins drawing, guess, examples, training and what is saved. */

import "./style.css";

import { download } from "gradport";

import { Chart, type Point } from "./chart";
import { loadDigits } from "./digits";
import { Drawing, drawWithPointers } from "./drawing";
import { element } from "./elements";
import { type Example, Examples } from "./examples";
import { showExamples } from "./gallery";
import { Guess, percentOf } from "./guess";
import { rasterise } from "./ink";
import { drawWithKeys } from "./keys";
import { latestOnly } from "./latest";
import { CANNOT_SAVE, sentenceOf } from "./messages";
import { showPreview } from "./preview";
import { forgetAll, recallDrawings, recallNetwork, saveDrawings, saveNetwork } from "./saved";
import { Training } from "./training";
import { zip } from "./zip";

const STEPS = 40;

const surface = element("pad", SVGSVGElement);
const buttons = {
  clear: element("clear", HTMLButtonElement),
  train: element("train", HTMLButtonElement),
  undo: element("undo", HTMLButtonElement),
  reset: element("reset", HTMLButtonElement),
  download: element("download", HTMLButtonElement),
  remove: element("delete", HTMLButtonElement),
};
const texts = {
  status: element("status", HTMLElement),
  pace: element("pace", HTMLElement),
  error: element("error", HTMLElement),
  saved: element("saved", HTMLElement),
  count: element("count", HTMLElement),
};
const bar = element("progress", HTMLProgressElement);
const gallery = element("examples", HTMLElement);
const dialog = element("confirm", HTMLDialogElement);

const guess = new Guess(element("guesses", HTMLElement), element("guess", HTMLElement), label);
const drawing = new Drawing(surface, element("ink", SVGPathElement), drawingChanged);
const examples = new Examples(examplesChanged);
const charts = {
  loss: new Chart(element("loss", HTMLElement), "Loss", {
    top: (most) => Math.max(0.5, Math.ceil(most * 2) / 2),
    label: (value) => value.toFixed(2),
  }),
  accuracy: new Chart(element("accuracy", HTMLElement), "Accuracy", { top: () => 1, label: percentOf }),
};

let training: Training | undefined;
let busy = false;
/** The example that the drawing on the pad has become. */
let labelled: Example | undefined;

const refreshGuess = latestOnly(async () => {
  const { strokes } = drawing;
  const image = strokes.length ? rasterise(strokes) : undefined;
  showPreview(element("preview", HTMLCanvasElement), image);
  guess.wait();
  guess.show(training && image && (await training.guess(image)));
});

function drawingChanged(): void {
  labelled = undefined;
  guess.mark(undefined);
  buttons.clear.disabled = drawing.strokes.length === 0;
  refreshGuess().catch(showError);
}

function label(digit: number): void {
  if (!training || drawing.strokes.length === 0 || labelled?.label === digit) return;
  if (labelled) examples.remove(labelled.id);
  drawing.finish();
  labelled = examples.add(digit, drawing.strokes);
  guess.mark(digit);
}

function examplesChanged(): void {
  if (labelled && !examples.all.includes(labelled)) {
    labelled = undefined;
    guess.mark(undefined);
  }
  showExamples(gallery, examples);
  const count = examples.all.length;
  texts.count.textContent = count === 1 ? "1 drawing" : `${count} drawings`;
  showControls();
  keep(saveDrawings({ examples: [...examples.all], history: training?.history ?? [] }));
}

function showControls(): void {
  const idle = training !== undefined && !busy;
  buttons.train.disabled = training === undefined || examples.all.length === 0;
  buttons.train.textContent = busy ? "Stop" : "Train";
  buttons.undo.disabled = !idle || !training!.canUndo;
  buttons.reset.disabled = !idle || training!.steps === 0;
  buttons.download.disabled = !idle;
  buttons.remove.disabled = !idle;
}

function showHistory(): void {
  const points = (name: "loss" | "accuracy"): Point[] =>
    training!.history.map(({ step, own, real }) => ({ step, own: own[name]!, real: real[name]! }));
  charts.loss.show(points("loss"));
  charts.accuracy.show(points("accuracy"));
}

function showError(error: unknown): void {
  texts.error.textContent = sentenceOf(error);
}

/** Says once where nothing can be kept; the page works on. */
function keep(saving: Promise<void>): void {
  saving.catch(() => (texts.saved.textContent = CANNOT_SAVE));
}

async function saveAll(): Promise<void> {
  keep(saveDrawings({ examples: [...examples.all], history: training!.history }));
  keep(saveNetwork(await training!.checkpoint()));
}

/** Runs an action of a button: one at a time, and an error becomes a sentence. */
async function act(action: (training: Training) => Promise<string>): Promise<void> {
  if (!training || busy) return;
  busy = true;
  texts.error.textContent = "";
  showControls();
  try {
    texts.status.textContent = await action(training);
  } catch (error) {
    texts.status.textContent = "";
    showError(error);
  }
  busy = false;
  showControls();
}

/** Shows what a new state of the network changes. */
async function stateChanged(): Promise<void> {
  showHistory();
  await refreshGuess();
  await saveAll();
}

async function train(open: Training): Promise<string> {
  const before = open.steps;
  texts.status.textContent = "Training.";
  try {
    await open.train(examples.all, STEPS, ({ step, steps, pace }) => {
      bar.value = step / steps;
      texts.pace.textContent = `Step ${step} of ${steps}, ${pace.toFixed(1)} ms a step`;
      showHistory();
      void refreshGuess();
    });
  } finally {
    await stateChanged();
  }
  return `Trained ${open.steps - before} steps.`;
}

function showUntrained(): void {
  bar.value = 0;
  texts.pace.textContent = "";
}

buttons.clear.addEventListener("click", () => drawing.clear());
buttons.train.addEventListener("click", () => (busy ? training?.stop() : void act(train)));
buttons.undo.addEventListener("click", () =>
  act(async (open) => {
    await open.undo();
    showUntrained();
    await stateChanged();
    return `Went back to step ${open.steps}.`;
  }),
);
buttons.reset.addEventListener("click", () =>
  act(async (open) => {
    await open.reset();
    showUntrained();
    await stateChanged();
    return "Back at the start. Your drawings stay.";
  }),
);
buttons.download.addEventListener("click", () =>
  act(async (open) => {
    const { model, data, dataName } = await open.export();
    download("digits.zip", zip({ "digits.onnx": model, [dataName]: data }));
    return "digits.zip holds the model and its weights.";
  }),
);
buttons.remove.addEventListener("click", () => dialog.showModal());
dialog.addEventListener("close", () => {
  if (dialog.returnValue !== "delete") return;
  void act(async (open) => {
    drawing.clear();
    examples.replace([]);
    await open.reset();
    open.forgetLevels();
    showUntrained();
    showHistory();
    await forgetAll();
    return "Everything is deleted.";
  });
});

drawWithPointers(surface, drawing);
drawWithKeys(surface, element("pen", SVGCircleElement), drawing, label);

async function start(): Promise<void> {
  const saved = await recallDrawings().catch(() => void (texts.saved.textContent = CANNOT_SAVE));
  const open = await Training.open(await loadDigits());
  const checkpoint = saved && (await recallNetwork());
  if (checkpoint) await open.resume(checkpoint, saved.history).catch(showError);
  training = open;
  if (saved) examples.replace(saved.examples);
  showHistory();
  showControls();
  await refreshGuess();
  texts.status.textContent = open.steps ? `Welcome back: ${open.steps} steps of training so far.` : "Ready.";
}

showControls();
start().catch((error: unknown) => {
  texts.status.textContent = "The network could not be loaded.";
  showError(error);
});
