"""The CTC loss, whose original reads the lengths as plain numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from gradport.compat.torch.operators import aten
from gradport.operators.written.registry import written

__all__: list[str] = []

_REDUCTIONS = ("none", "mean", "sum")

Lengths = torch.Tensor | Sequence[int]


@written(torch.ctc_loss)
def ctc_loss_of_torch(
    log_probs: torch.Tensor,
    targets: torch.Tensor,
    input_lengths: Lengths,
    target_lengths: Lengths,
    blank: int = 0,
    reduction: int = 1,
    zero_infinity: bool = False,
) -> torch.Tensor:
    """`ctc_loss` with the reduction as a number."""
    return ctc_loss(log_probs, targets, input_lengths, target_lengths, blank, _REDUCTIONS[reduction], zero_infinity)


@written(F.ctc_loss)
def ctc_loss(
    log_probs: torch.Tensor,
    targets: torch.Tensor,
    input_lengths: Lengths,
    target_lengths: Lengths,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> torch.Tensor:
    """Connectionist temporal classification, with lengths that may be tensors of any value.

    Args:
        log_probs: [T, N, C] or [T, C].
        targets: [N, S], [S], or those of all N in a row: [sum of the lengths].
        input_lengths: [N] or [].
        target_lengths: [N] or [].

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.ctc_loss.html
    """
    batched = log_probs.dim() == 3
    steps, lengths = (_as_tensor(given, log_probs.device) for given in (input_lengths, target_lengths))
    whole = log_probs if batched else log_probs.unsqueeze(1)
    if targets.dim() == 1:
        targets = _in_rows(targets, lengths, target_lengths) if batched else targets.unsqueeze(0)
    losses, _ = aten._ctc_loss.Tensor(whole, targets, steps, lengths, blank, zero_infinity)
    if zero_infinity:
        losses = torch.where(losses == float("inf"), torch.zeros_like(losses), losses)
    if reduction == "mean":
        return (losses / lengths.clamp(min=1).to(losses.dtype)).mean()
    if reduction == "sum":
        return losses.sum()
    return losses if batched else losses.squeeze(0)


def _as_tensor(lengths: Lengths, device: torch.device) -> torch.Tensor:
    """Lengths as int64, [N]."""
    return torch.as_tensor(lengths, device=device).to(torch.int64).reshape(-1)


def _in_rows(targets: torch.Tensor, lengths: torch.Tensor, given: Lengths) -> torch.Tensor:
    """Targets that stand one after the other as rows, [N, S]; what stands behind a row's length has no meaning. S is
    the largest length where it is known, and the number of all targets where it is not."""
    longest = targets.shape[0] if isinstance(given, torch.Tensor) else max(given, default=0)
    first = lengths.cumsum(0) - lengths
    place = first.unsqueeze(1) + torch.arange(longest, device=targets.device)
    return targets[place.clamp(max=targets.shape[0] - 1)]
