"""A training in separate graphs: gradients, the optimizer's step, evaluation and prediction.

All take the same state: the parameters that the optimizer moves and the buffers that the forward changes.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import torch

from gradport.eager.joint import CallResults, Joint, Slot
from gradport.eager.loss_scale import LossScale
from gradport.eager.optimizers import is_elementwise
from gradport.eager.randomness import Randomness
from gradport.eager.rows import rows_of_large
from gradport.eager.trained import Trained
from gradport.eager.update import Update
from gradport.subject.ports import Role
from gradport.subject.subject import Subject

__all__ = ["Apply", "Evaluate", "Gradients", "Metric", "Predict"]

Metric = Callable[..., Any]
"""`f(result, *targets)`, a scalar."""


class Gradients(Trained):
    """Loss, metrics, gradients and new buffers of a batch.

    Args:
        subject, optimizer: as for `Trained`.
        metrics: by name.
        loss_scale: of the loss before the backward pass, or None.
    """

    def __init__(
        self,
        subject: Subject,
        optimizer: torch.optim.Optimizer,
        metrics: Mapping[str, Metric] | None = None,
        loss_scale: LossScale | None = None,
    ) -> None:
        self._metrics = dict(metrics or {})
        self.loss_scale = loss_scale
        super().__init__(subject, optimizer)

    def at(self, tensors: Mapping[Slot, torch.Tensor]) -> Gradients:
        """The same with these tensors as its example; absent slots keep their example."""
        return Gradients(self._subject_at(tensors), self.optimizer, self._metrics, self.loss_scale)

    def examples(self) -> dict[Slot, torch.Tensor]:
        """Every slot with its example tensor: those of a Joint, then the scale of the loss."""
        return super().examples() | ({} if self.loss_scale is None else self.loss_scale.gradients_state())

    def __call__(
        self,
        tensors: Mapping[Slot, torch.Tensor],
        cotangent: Callable[[str, torch.Tensor], torch.Tensor],
        random: Callable[[], Randomness] | None = None,
    ) -> CallResults:
        """Runs forward and backward."""
        results = super().__call__(tensors, cotangent, random)
        buffers = {slot: results.buffers[slot.name] for slot in self.state_slots() if slot.role is Role.BUFFER}
        return dataclasses.replace(results, updates=(), new_state=buffers)

    def select_outputs(self, results: CallResults) -> dict[str, torch.Tensor]:
        """The metrics."""
        return dict(results.outputs)

    def _evaluate(self, tensors: Mapping[Slot, torch.Tensor]) -> tuple[dict[str, torch.Tensor], torch.Tensor | None]:
        result, targets, loss = self._result(tensors)
        return _measure(self._metrics, result, targets), loss

    def _scale_loss(self, loss: torch.Tensor, inputs: Mapping[Slot, torch.Tensor]) -> torch.Tensor:
        return loss if self.loss_scale is None else self.loss_scale.scale(loss, inputs)


class Apply(Joint):
    """The optimizer's step on given gradients. Where the optimizer moves each element by itself, large tensors have the
    shape of their `rows`.

    Args:
        gradients: the other half.
        clip_grad_norm: limit of the norm of all gradients together, or None.
    """

    def __init__(self, gradients: Gradients, clip_grad_norm: float | None) -> None:
        self._loss_scale = gradients.loss_scale
        self.update = Update(gradients.optimizer, gradients.trained, clip_grad_norm)
        self._own = {Slot(Role.PARAMETER, name): tensor.detach() for name, tensor in gradients.trained.items()}
        self._gradients = {
            Slot(Role.GRADIENT, name): torch.zeros_like(tensor) for name, tensor in gradients.trained.items()
        }
        self._rows = rows_of_large(gradients.trained) if is_elementwise(gradients.optimizer) else {}
        super().__init__(Subject(_optimizer_step, name=f"the optimizer of {gradients.subject.name}"))
        self.moving = frozenset(self._own)

    @property
    def updates_in_rows(self) -> list[list[Slot]]:
        """For each large parameter, the state that has the shape of its rows."""
        state = self.whole_state()
        return [[slot for slot, tensor in state.items() if self._has_rows(slot, tensor, name)] for name in self._rows]

    def whole_state(self) -> dict[Slot, torch.Tensor]:
        """The state in torch's shapes."""
        scale = {} if self._loss_scale is None else self._loss_scale.state()
        return self._own | self.update.state | scale

    def in_rows(self, tensors: Mapping[Slot, torch.Tensor]) -> dict[Slot, torch.Tensor]:
        """Tensors in torch's shapes in those of this step; others stay as they are."""
        shaped = dict(tensors)
        for name, shape in self._rows.items():
            shaped |= {
                slot: tensor.reshape(shape) for slot, tensor in tensors.items() if self._has_rows(slot, tensor, name)
            }
        return shaped

    def _has_rows(self, slot: Slot, tensor: torch.Tensor, parameter: str) -> bool:
        owner = slot.name.removeprefix("optim.").rpartition(".")[0] if slot.role is Role.STATE else slot.name
        whole = self._own[Slot(Role.PARAMETER, parameter)]
        return owner == parameter and tensor.numel() == whole.numel()

    def for_trace(self) -> Apply:
        """The step with numbers as tensors, tensor by tensor, without a branch."""
        twin = copy.copy(self)
        twin.update = self.update.for_trace()
        return twin

    def examples(self) -> dict[Slot, torch.Tensor]:
        """Parameters, gradients, optimizer state, learning rates."""
        return self.in_rows(self._own | self._gradients | self.whole_state()) | self.update.rates

    def __call__(
        self,
        tensors: Mapping[Slot, torch.Tensor],
        cotangent: Callable[[str, torch.Tensor], torch.Tensor],
        random: Callable[[], Randomness] | None = None,
    ) -> CallResults:
        """Takes the step."""
        placed = self.examples() | dict(tensors)
        gradients = {slot.name: placed[slot] for slot in self._gradients}
        with torch.no_grad():
            if self._loss_scale is None:
                new = self.update(placed, gradients)
            else:
                unscaled = self._loss_scale.unscale(gradients, placed)
                new = self._loss_scale.settle(self.update(placed, unscaled), placed, gradients)
        ordered = {slot: new[slot] for slot in self.state_slots()}
        return CallResults({}, None, {}, (), {}, (), new_state=ordered)


class _InEvalMode(Joint):
    """A forward in eval mode, by the state of a training."""

    def __init__(self, subject: Subject, moving: frozenset[Slot]) -> None:
        super().__init__(subject)
        self.moving = moving

    def __call__(
        self,
        tensors: Mapping[Slot, torch.Tensor],
        cotangent: Callable[[str, torch.Tensor], torch.Tensor],
        random: Callable[[], Randomness] | None = None,
    ) -> CallResults:
        """Runs the forward in eval mode."""
        with _eval_mode(self.state.modules()):
            results = super().__call__(tensors, cotangent, random)
        return dataclasses.replace(results, updates=())


class Evaluate(_InEvalMode):
    """Loss and metrics of a batch in eval mode, by the state of a training.

    Args:
        gradients: the training.
        metrics: by name.
    """

    def __init__(self, gradients: Trained, metrics: Mapping[str, Metric] | None = None) -> None:
        super().__init__(gradients.subject.replace(wrt=None), gradients.moving)
        self._metrics = dict(metrics or {})

    def select_outputs(self, results: CallResults) -> dict[str, torch.Tensor]:
        """The metrics."""
        return dict(results.outputs)

    def _evaluate(self, tensors: Mapping[Slot, torch.Tensor]) -> tuple[dict[str, torch.Tensor], torch.Tensor | None]:
        result, targets, loss = self._result(tensors)
        return _measure(self._metrics, result, targets), loss


class Predict(_InEvalMode):
    """The outputs in eval mode, by the state of a training.

    Args:
        gradients: the training.
        left_out: keyword arguments that the forward is called without.
    """

    def __init__(self, gradients: Trained, left_out: frozenset[str] = frozenset()) -> None:
        subject = gradients.subject
        absent = {name for target in gradients.targets for name in (target.name, target.of)} | left_out
        super().__init__(
            subject.replace(
                kwargs=_without(subject.kwargs, left_out),
                wrt=None,
                loss=None,
                targets=(),
                outputs=None,
                dynamic_shapes=_without(subject.dynamic_shapes, absent),
                inputs=_without(subject.inputs, absent),
            ),
            gradients.moving,
        )


def _without(by_name: Any, names: Collection[str]) -> Any:
    return (
        {name: one for name, one in by_name.items() if name not in names} if isinstance(by_name, Mapping) else by_name
    )


def _optimizer_step() -> None:
    """The Subject of `Apply`: an optimizer's step takes no arguments beside its state."""


def _measure(metrics: Mapping[str, Metric], result: Any, targets: Any) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return {name: torch.as_tensor(metric(result, *targets)) for name, metric in metrics.items()}


@contextlib.contextmanager
def _eval_mode(modules: Mapping[str, torch.nn.Module]) -> Iterator[None]:
    """Every module in eval mode; afterwards each has its own mode again."""
    modes = {module: module.training for module in modules.values()}
    for module in modes:
        module.training = False
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
