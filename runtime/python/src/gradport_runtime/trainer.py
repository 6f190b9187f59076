"""The Trainer: state in memory, one step after another."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from gradport_runtime.bundle import STATE, Bundle, Model, Port, inside
from gradport_runtime.checkpoints import Checkpoint, read_checkpoint, require_state, write_checkpoint
from gradport_runtime.draws import Place, draw_inputs
from gradport_runtime.errors import BundleError, Code, InputError, TrainingError
from gradport_runtime.exports import write_inference
from gradport_runtime.fitting import Batches, History, fit
from gradport_runtime.frozen import FrozenWeights
from gradport_runtime.inputs import arrays_of
from gradport_runtime.sessions import Engine, Options, share
from gradport_runtime.shapes import shape_of

__all__ = ["Trainer"]


class Trainer:
    """Trains a bundle.

    Args:
        bundle: the folder.
        resume: a checkpoint to go on from; None: the starting state of the bundle.
        seed: of the random draws; a checkpoint brings its own.
        threads: of one operator; None: one for each core, bound to it (ONNX Runtime's choice). A number of threads is
            not bound to cores: a short step can take twice as long with it.
        providers: ONNX Runtime's execution providers; None: the CPU.
        rank: of this process where several train together; it has random draws of its own.

    Attributes:
        bundle: what is trained.
        steps: how many steps the optimizer has taken.

    Raises:
        BundleError: the bundle cannot be read.
        CheckpointError: the checkpoint cannot be read, or belongs to another bundle.
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str],
        *,
        resume: str | os.PathLike[str] | None = None,
        seed: int = 0,
        threads: int | None = None,
        providers: Sequence[Any] | None = None,
        rank: int = 0,
    ) -> None:
        self.bundle = Bundle.read(bundle)
        start = inside(self.bundle.folder, STATE) if resume is None else os.fspath(resume)
        checkpoint = read_checkpoint(start, self.bundle.identity, self.bundle.state)
        self.steps = checkpoint.step
        self._seed = seed if resume is None else checkpoint.seed
        self._rank = rank
        self._micro_batch = 0
        self._state = dict(checkpoint.state)
        self._options = Options(threads, tuple(providers or ["CPUExecutionProvider"]))
        self._frozen = FrozenWeights(self.bundle.folder)
        self._gradients, self._apply = self._training_engines()
        self._others: dict[str, Engine] = {}

    def step(self, inputs: Mapping[str, Any] | None = None, *, lr: Any = None, **named: Any) -> dict[str, float]:
        """Takes one step: loss and gradients of a batch, then the optimizer.

        Args:
            inputs: the batch by name; names may also be keywords.
            lr: learning rate of this step, or one for each group by input name; None: that of the schedule.

        Returns:
            The loss and the metrics.

        Raises:
            InputError: a name, dtype or shape does not fit.
            TrainingError: ONNX Runtime fails, or the loss is not finite; the state is that of the step before.
        """
        results = self._run_gradients(inputs, named)
        self._take_step(lr)
        return results

    def gradients(self, inputs: Mapping[str, Any] | None = None, **named: Any) -> dict[str, np.ndarray]:
        """The gradients of a batch by parameter name, not scaled and not clipped. The state of buffers moves on.

        Raises:
            InputError, TrainingError: as `step`.
        """
        self._run_gradients(inputs, named)
        self._micro_batch = 0
        return {name: total.copy() for name, total in self._totals.items()}

    def apply(self, gradients: Mapping[str, Any], *, lr: Any = None) -> None:
        """Takes the optimizer's step with these gradients, one for each name that `gradients` gives.

        Raises:
            InputError: a name, dtype or shape does not fit.
            TrainingError: ONNX Runtime fails.
        """
        ports = {port.of: port for port in self._gradients.model.outputs if port.role == "gradient"}
        arrays = arrays_of([_renamed(port, name) for name, port in ports.items()], gradients, "apply")
        for name, array in arrays.items():
            np.copyto(self._totals[name], array)
        self._take_step(lr)

    def accumulate(self, batches: Sequence[Mapping[str, Any]], *, lr: Any = None) -> dict[str, float]:
        """Takes one step on the sum of the gradients of several batches; gives means of loss and metrics.

        Raises:
            InputError, TrainingError: as `step`.
        """
        every = [self._run_gradients(batch, {}) for batch in batches]
        self._take_step(lr)
        return {name: float(np.mean([one[name] for one in every])) for name in every[0]}

    def evaluate(self, inputs: Mapping[str, Any] | None = None, **named: Any) -> dict[str, float]:
        """The loss and the metrics of a batch in eval mode.

        Raises:
            InputError, TrainingError: as `step`.
        """
        return _numbers(self._run_other("evaluate", inputs, named))

    def predict(self, inputs: Mapping[str, Any] | None = None, **named: Any) -> dict[str, np.ndarray]:
        """The outputs of a batch in eval mode, by name.

        Raises:
            InputError, TrainingError: as `step`.
        """
        return self._run_other("predict", inputs, named)

    def fit(
        self,
        batches: Batches,
        epochs: int = 1,
        *,
        validate: Batches | None = None,
        accumulate: int = 1,
        progress: bool = True,
        on_step: Callable[[int, dict[str, float]], Any] | None = None,
    ) -> History:
        """Trains over batches.

        Args:
            batches: mappings of names to arrays; an iterable, or a function that gives one for each epoch.
            epochs: how often it goes through them.
            validate: batches that are evaluated after each epoch.
            accumulate: how many batches add up their gradients before a step.
            progress: whether progress is written to the standard error stream.
            on_step: called after each step with its number and its results; True ends the training.

        Returns:
            The loss and the metrics of each step, and those of each validation.

        Raises:
            InputError, TrainingError: as `step`. An interrupt leaves the state of the last whole step.
        """
        return fit(self, batches, epochs, validate, accumulate, progress, on_step)

    def state(self) -> dict[str, np.ndarray]:
        """A copy of every state tensor by name: parameters, buffers, and what the optimizer keeps."""
        return {name: array.copy() for name, array in self._state.items()}

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Takes over a state, or the part of it that is given.

        Raises:
            CheckpointError: a name, dtype or shape does not fit; nothing was taken over.
        """
        whole = {**self._state, **state}
        require_state("The state", whole, self.bundle.state)
        for name, tensor in state.items():
            np.copyto(self._state[name], tensor)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a checkpoint: the state, the number of steps and the seed. A crash keeps the file that was there.

        Raises:
            CheckpointError: the file cannot be written, or would replace a file that is not a checkpoint.
        """
        write_checkpoint(os.fspath(path), Checkpoint(self._state, self.steps, self._seed), self.bundle.identity)

    def export(self, path: str | os.PathLike[str]) -> None:
        """Writes an inference model with the trained weights: the .onnx file and a data file beside it.

        Raises:
            BundleError: the bundle has no inference model.
        """
        write_inference(self.bundle, self._state, os.fspath(path))

    def _training_engines(self) -> tuple[Engine, Engine]:
        gradients, apply = self.bundle.models["gradients"], self.bundle.models["apply"]
        outputs = {port.of: port for port in gradients.outputs if port.role == "gradient"}
        self._totals = {of: np.zeros(shape_of(port.shape, {}), port.dtype) for of, port in outputs.items()}
        self._fresh: dict[str, np.ndarray] = {}
        self._new_buffers = {port.name: port.of for port in gradients.outputs if port.role == "new_state"}
        self._rates = [port.name for port in apply.inputs if port.role == "lr"]
        into = {port.name: share(self._totals[of]) for of, port in outputs.items()}
        out_of = {
            port.name: _as_shaped(self._totals[port.of], port) for port in apply.inputs if port.role == "gradient"
        }
        successors = {
            port.name: _as_shaped(self._state[port.of], port) for port in apply.outputs if port.role == "new_state"
        }
        return (
            Engine(gradients, self._options, arena=True, bound=self._state_of(gradients) | into, frozen=self._frozen),
            Engine(
                apply,
                self._options,
                arena=False,
                bound=self._state_of(apply) | out_of | successors,
                frozen=self._frozen,
            ),
        )

    def _state_of(self, model: Model) -> dict[str, Any]:
        return {port.name: _as_shaped(self._state[port.of], port) for port in model.inputs if port.role == "state"}

    def _run_gradients(self, inputs: Mapping[str, Any] | None, named: Mapping[str, Any]) -> dict[str, float]:
        """Loss and metrics; the gradients are added to those since the last step."""
        before = {name: total.copy() for name, total in self._totals.items()} if self._micro_batch else {}
        results = self._run(self._gradients, inputs, named)
        numbers = _numbers({n: v for n, v in results.items() if n not in self._new_buffers})
        finite = bool(np.isfinite(numbers.get("loss", 0.0)))
        if not finite and not self.bundle.skips:
            text = f"The loss of step {self.steps + 1} is {numbers['loss']}; the state is that of step {self.steps}."
            raise TrainingError(Code.NOT_FINITE, text)
        for name, of in self._new_buffers.items() if finite else ():
            np.copyto(self._state[of], results[name])
        for name, total in before.items():
            self._totals[name] += total
        self._micro_batch += 1
        return numbers

    def _take_step(self, lr: Any) -> None:
        rates = self._scheduled() if lr is None else self._given_rates(lr)
        with _whole():
            self._apply.run({name: np.asarray(rate, np.float32) for name, rate in rates.items()})
            self.steps += 1
            self._micro_batch = 0

    def _scheduled(self) -> dict[str, float]:
        schedule = self.bundle.schedule
        return {name: schedule[name][min(self.steps, len(schedule[name]) - 1)] for name in self._rates}

    def _given_rates(self, lr: Any) -> dict[str, float]:
        if isinstance(lr, Mapping):
            unknown = [name for name in lr if name not in self._rates]
            if unknown:
                raise InputError(Code.INPUT_UNKNOWN, f"{unknown[0]!r} is not one of {', '.join(self._rates)}.")
            return self._scheduled() | {name: float(rate) for name, rate in lr.items()}
        return dict.fromkeys(self._rates, float(lr))

    def _run_other(
        self, name: str, inputs: Mapping[str, Any] | None, named: Mapping[str, Any]
    ) -> dict[str, np.ndarray]:
        if name not in self._others:
            model = self.bundle.model(name)
            self._others[name] = Engine(
                model, self._options, arena=False, bound=self._state_of(model), frozen=self._frozen
            )
        return self._run(self._others[name], inputs, named)

    def _run(self, engine: Engine, inputs: Mapping[str, Any] | None, named: Mapping[str, Any]) -> dict[str, np.ndarray]:
        if inputs is not None and not isinstance(inputs, Mapping):
            raise InputError(Code.INPUT_DTYPE, f"A batch is a mapping of names to arrays, not {type(inputs).__name__}.")
        model = engine.model
        ports = [port for port in model.inputs if port.role in ("argument", "target")]
        arrays = arrays_of(ports, {**(inputs or {}), **named}, os.path.basename(model.path).removesuffix(".onnx"))
        return engine.run(arrays | self._draws(model, arrays))

    def _draws(self, model: Model, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return draw_inputs(model, arrays, Place(self._seed, self.steps, self._micro_batch, self._rank))


def _as_shaped(array: np.ndarray, port: Port) -> Any:
    """An OrtValue on the memory of an array, in the shape of a port: the optimizer's step has large tensors as rows."""
    shape = shape_of(port.shape, {})
    if math.prod(shape) != array.size:
        text = f"The port {port.name} of {shape} does not fit {port.of!r}, which has shape {array.shape}."
        raise BundleError(Code.MANIFEST_INVALID, text)
    return share(array.reshape(shape))


def _renamed(port: Port, name: str) -> Port:
    return Port(name, port.dtype, port.shape, port.role, port.of)


def _numbers(results: Mapping[str, np.ndarray]) -> dict[str, float]:
    return {name: float(value) for name, value in results.items()}


@contextlib.contextmanager
def _whole() -> Iterator[None]:
    """Holds an interrupt back until the end, so that the state and the number of steps agree."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[Any] = []
    before = signal.signal(signal.SIGINT, lambda *what: held.append(what))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if held:
        raise KeyboardInterrupt
