"""Loss scaling: the loss is multiplied before the backward pass, so that small gradients in float16 do not become zero.

Source of the dynamic rule and its numbers: https://docs.pytorch.org/docs/stable/amp.html#torch.amp.GradScaler
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch

from gradport.errors import SpecError
from gradport.subject.ports import Role, Slot

__all__ = ["LossScale", "parse_loss_scale"]

_SCALE, _GOOD = Slot(Role.STATE, "loss_scale.scale"), Slot(Role.STATE, "loss_scale.good_steps")

_START, _GROWTH, _BACKOFF, _INTERVAL = 65536.0, 2.0, 0.5, 2000

Tensors = Mapping[Slot, torch.Tensor]


@dataclasses.dataclass(frozen=True)
class LossScale:
    """How the loss is scaled.

    Attributes:
        number: the scale; None: it is part of the state and adapts.
    """

    number: float | None

    def gradients_state(self) -> dict[Slot, torch.Tensor]:
        """The state that the backward pass reads."""
        return {} if self.number is not None else {_SCALE: torch.tensor(_START)}

    def state(self) -> dict[Slot, torch.Tensor]:
        """The state that the optimizer's step reads and writes."""
        return {} if self.number is not None else {**self.gradients_state(), _GOOD: torch.zeros((), dtype=torch.int64)}

    def scale(self, loss: torch.Tensor, tensors: Tensors) -> torch.Tensor:
        """The scaled loss."""
        return loss * self._scale(tensors, loss)

    def unscale(self, gradients: Mapping[str, torch.Tensor], tensors: Tensors) -> dict[str, torch.Tensor]:
        """The gradients of the loss itself."""
        return {name: gradient / self._scale(tensors, gradient) for name, gradient in gradients.items()}

    def settle(self, new: Tensors, tensors: Tensors, gradients: Mapping[str, torch.Tensor]) -> dict[Slot, torch.Tensor]:
        """The state after a step; if a gradient is inf or nan, the old state with a smaller scale.

        Args:
            new: the state that the optimizer gives.
            tensors: the state before.
            gradients: scaled, by parameter name.
        """
        if self.number is not None:
            return dict(new)
        finite = torch.stack([torch.isfinite(gradient).all() for gradient in gradients.values()]).all()
        settled = {slot: torch.where(finite, value, tensors[slot]) for slot, value in new.items()}
        scale, good = tensors[_SCALE], tensors[_GOOD] + 1
        grows = good >= _INTERVAL
        settled[_SCALE] = torch.where(finite, torch.where(grows, scale * _GROWTH, scale), scale * _BACKOFF)
        settled[_GOOD] = torch.where(finite & ~grows, good, torch.zeros_like(good))
        return settled

    def _scale(self, tensors: Tensors, like: torch.Tensor) -> torch.Tensor | float:
        return tensors[_SCALE].to(like.dtype) if self.number is None else self.number


def parse_loss_scale(text: float | str | None) -> LossScale | None:
    """`loss_scale=` of `export_training`: None, a number, or "dynamic".

    Raises:
        SpecError: it is none of them.
    """
    if text is None:
        return None
    if text == "dynamic":
        return LossScale(None)
    if isinstance(text, (int, float)) and not isinstance(text, bool) and 0 < text < float("inf"):
        return LossScale(float(text))
    raise SpecError(f'loss_scale={text!r} is not a positive number, "dynamic" or None.')
