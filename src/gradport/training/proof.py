"""A bundle run by gradport-runtime against eager torch, step after step, before anybody gets it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from typing import Any

import gradport_runtime
import numpy as np
import torch
from gradport_runtime.draws import Place, draw_inputs

from gradport.eager.dimensions import Dimensions, by_name
from gradport.eager.halves import Apply, Evaluate, Gradients, Predict
from gradport.eager.inputs import draw_inputs as draw_arguments
from gradport.eager.inputs import sizes_of
from gradport.eager.joint import Joint, Slot
from gradport.eager.randomness import draw_from
from gradport.errors import Error, ExportError
from gradport.model.sessions import open_session, run_session
from gradport.proving.answers import compare_results, grain_of, reference
from gradport.subject.ports import Role
from gradport.training.bundle import Training

__all__ = ["prove_training"]

_STEPS = 5


def prove_training(
    training: Training,
    gradients: Gradients,
    apply: Apply,
    evaluate: Evaluate,
    predict: Predict,
    dimensions: Dimensions,
) -> None:
    """Saves the bundle aside and trains it: at each step the gradients of moved inputs, then the optimizer's step.

    Raises:
        ExportError: a result departs from eager's on the same state.
        TargetError: eager rejects the example.
    """
    with tempfile.TemporaryDirectory(prefix="gradport-") as folder:
        path = os.path.join(folder, "bundle")
        training.save(path)
        trainer = gradport_runtime.Trainer(path, seed=1)
        run = _Run(trainer, gradients, dimensions, {n: grain_of(p) for n, p in training.programs.items()})
        for number in range(1, _STEPS + 1):
            run.take_step(number, apply)
        for half, results in ((evaluate, trainer.evaluate), (predict, trainer.predict)):
            run.hold_other(half, results)
        exported = os.path.join(folder, "inference.onnx")
        trainer.export(exported)
        run.hold_exported(predict, exported)


class _Run:
    """A Trainer beside eager torch."""

    def __init__(
        self,
        trainer: gradport_runtime.Trainer,
        gradients: Gradients,
        dimensions: Dimensions,
        grains: Mapping[str, float],
    ) -> None:
        self._grains = grains
        self._trainer = trainer
        self._gradients = gradients
        self._dimensions = dimensions
        self._generator = torch.Generator().manual_seed(0)

    def take_step(self, number: int, apply: Apply) -> None:
        """One batch: loss, metrics, gradients and buffers, then new parameters and optimizer state."""
        batch = self._batch(number)
        before = self._trainer.state()
        found = self._trainer.gradients(self._arrays(batch))
        after = self._trainer.state()
        self._hold(
            self._gradients,
            batch | _placed(self._gradients, before),
            self._random("gradients", batch),
            {f"grad_{name}": value for name, value in found.items()} | {f"new.{name}": after[name] for name in after},
            f"the gradients of step {number}",
        )
        self._trainer.apply(found)
        stepped = self._trainer.state()
        given = {Slot(Role.GRADIENT, name): torch.from_numpy(value) for name, value in found.items()}
        rates = {
            slot: torch.tensor(self._rate(slot.name, number - 1), dtype=torch.float32) for slot in apply.update.rates
        }
        shapes = {
            slot.name: tensor.shape for slot, tensor in apply.examples().items() if slot.role is not Role.GRADIENT
        }
        self._hold(
            apply,
            apply.in_rows(_placed(apply, after) | given) | rates,
            None,
            {f"new.{name}": value.reshape(shapes.get(name, value.shape)) for name, value in stepped.items()},
            f"the optimizer's step {number}",
        )

    def hold_other(self, half: Joint, run: Any) -> None:
        """Evaluation or prediction by the state that was reached."""
        batch = {
            slot: tensor
            for slot, tensor in self._batch(_STEPS).items()
            if slot in half.examples() and slot.role in (Role.ARGUMENT, Role.TARGET)
        }
        found = run(self._arrays(batch))
        name = type(half).__name__.lower()
        self._hold(
            half, batch | _placed(half, self._trainer.state()), self._random(name, batch), found, f"{name} at the end"
        )

    def hold_exported(self, predict: Predict, path: str) -> None:
        """The inference model that the Trainer wrote, in a session of its own."""
        entry = self._trainer.bundle.model("inference")
        names = [port.name for port in entry.outputs]

        def run(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            drawn = draw_inputs(entry, arrays, Place(1, self._trainer.steps))
            given = {name: torch.from_numpy(array) for name, array in (*arrays.items(), *drawn.items())}
            results = run_session(open_session(path), given)
            return {name: results[name].numpy() for name in names}

        self.hold_other(predict, run)

    def _batch(self, number: int) -> dict[Slot, torch.Tensor]:
        """The example at first, then moved inputs, every other time at other sizes."""
        if number == 1:
            tensors = self._gradients.examples()
        else:
            sizes = sizes_of(self._gradients, self._dimensions)
            limits = by_name(self._dimensions)
            larger = {name: size + number for name, size in sizes.items() if limits[name].admits(size + number)}
            chosen = {**sizes, **larger} if number % 2 else sizes
            tensors = draw_arguments(self._gradients, self._dimensions, chosen, self._generator)
        return {slot: tensor for slot, tensor in tensors.items() if slot.role in (Role.ARGUMENT, Role.TARGET)}

    def _arrays(self, batch: Mapping[Slot, torch.Tensor]) -> dict[str, np.ndarray]:
        """A batch under the names of the inputs, which stand in the order of the slots."""
        ports = self._trainer.bundle.models["gradients"].inputs
        names = [port.name for port in ports if port.role in ("argument", "target")]
        slots = [slot for slot in self._gradients.examples() if slot.role in (Role.ARGUMENT, Role.TARGET)]
        by_slot = dict(zip(slots, names, strict=True))
        return {by_slot[slot]: tensor.detach().numpy() for slot, tensor in batch.items()}

    def _random(self, model: str, batch: Mapping[Slot, torch.Tensor]) -> Any:
        """The draws that the Trainer makes for this batch."""
        entry = self._trainer.bundle.models[model]
        place = Place(1, self._trainer.steps)
        drawn = draw_inputs(entry, self._arrays(batch), place)
        return draw_from({name: torch.from_numpy(value) for name, value in drawn.items()})

    def _rate(self, name: str, step: int) -> float:
        values = self._trainer.bundle.schedule[name]
        return values[min(step, len(values) - 1)]

    def _hold(
        self,
        joint: Joint,
        tensors: Mapping[Slot, torch.Tensor],
        random: Any,
        found: Mapping[str, Any],
        what: str,
    ) -> None:
        """Holds results, by name, against eager's on the same tensors; those that eager does not give are left out."""
        try:
            grain = self._grains[type(joint).__name__.lower()]
            answer = reference(joint, {**joint.examples(), **tensors}, self._generator, random, grain)
        except Error as error:
            raise ExportError(
                f"{self._gradients.subject.name} was not exported: {what} fails in torch: {error}"
            ) from error
        results = {name: _tensor(found.get(name, expected), expected) for name, expected in answer.expected.items()}
        for name, comparison in compare_results(answer, results).items():
            if not comparison.ok:
                raise ExportError(
                    f"{self._gradients.subject.name} was not exported: in {what} {name!r} departs from torch: "
                    f"{comparison.reason}. verify=False returns the Training without a proof."
                )


def _tensor(found: Any, expected: torch.Tensor) -> torch.Tensor:
    """A result as a tensor; a number, which a Trainer gives for a scalar, in the dtype that is expected."""
    return torch.tensor(found, dtype=expected.dtype) if isinstance(found, float) else torch.as_tensor(found)


def _placed(joint: Joint, state: Mapping[str, np.ndarray]) -> dict[Slot, torch.Tensor]:
    """The state under the slots of a Joint."""
    return {slot: torch.from_numpy(state[slot.name]) for slot in joint.state_slots()}
