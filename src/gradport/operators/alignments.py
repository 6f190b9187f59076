"""The CTC loss and its gradient: sums over all alignments, in the log domain, one scan step per time.

Each target has a blank before, between and after its labels: 2 S + 1 places. Source of both: Graves et
al., "Connectionist Temporal Classification" (2006), sections 4.1 and 4.2;
https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.ctc_loss.html
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from gradport.compat.torch.operators import aten
from gradport.compat.torch.operators import aten as _aten
from gradport.operators.samples import integers, reals, sample
from gradport.operators.table import decomposition, replacement

__all__: list[str] = []

_REDUCTIONS = ("none", "mean", "sum")

_INPUTS = (
    reals(5, "n", 4),
    integers("n", 2, low=1),
    integers("n", low=4, high=5),
    integers("n", low=1, high=2),
)

_SAMPLE = sample(lambda x, words, times, lengths: F.ctc_loss(x.log_softmax(-1), words, times, lengths), *_INPUTS)

Lengths = torch.Tensor | Sequence[int]


@replacement(
    torch.ctc_loss,
    samples=[
        sample(lambda x, words, times, lengths: torch.ctc_loss(x.log_softmax(-1), words, times, lengths), *_INPUTS)
    ],
)
def ctc_loss_of_torch(
    log_probs: torch.Tensor,
    targets: torch.Tensor,
    input_lengths: Lengths,
    target_lengths: Lengths,
    blank: int = 0,
    reduction: int = 0,
    zero_infinity: bool = False,
) -> torch.Tensor:
    """`ctc_loss` with the reduction as a number."""
    return ctc_loss(log_probs, targets, input_lengths, target_lengths, blank, _REDUCTIONS[reduction], zero_infinity)


@replacement(
    F.ctc_loss,
    samples=[_SAMPLE],
)
def ctc_loss(
    log_probs: torch.Tensor,
    targets: torch.Tensor,
    input_lengths: Lengths,
    target_lengths: Lengths,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> torch.Tensor:
    """Connectionist temporal classification loss; the lengths may be tensors.

    Args:
        log_probs: [T, N, C] or [T, C].
        targets: [N, S], [S], or the N targets concatenated: [sum of the lengths].
        input_lengths: [N] or [].
        target_lengths: [N] or [].

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.ctc_loss.html
    """
    batched = log_probs.dim() == 3
    steps, lengths = (_as_tensor(value, log_probs.device) for value in (input_lengths, target_lengths))
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
    """Lengths as an int64 tensor, [N]."""
    return torch.as_tensor(lengths, device=device).to(torch.int64).reshape(-1)


def _in_rows(targets: torch.Tensor, lengths: torch.Tensor, known_lengths: Lengths) -> torch.Tensor:
    """Concatenated targets as rows, [N, S]; values after a row's length are undefined. S is the largest length if it
    is known, else the number of all labels."""
    longest = targets.shape[0] if isinstance(known_lengths, torch.Tensor) else max(known_lengths, default=0)
    first = lengths.cumsum(0) - lengths
    place = first.unsqueeze(1) + torch.arange(longest, device=targets.device)
    return targets[place.clamp(max=targets.shape[0] - 1)]


_NEVER = float("-inf")


@decomposition(
    _aten._ctc_loss.Tensor,
    samples=[_SAMPLE],
)
def ctc_loss_of_rows(
    log_probs: torch.Tensor,
    targets: torch.Tensor,
    input_lengths: torch.Tensor,
    target_lengths: torch.Tensor,
    blank: int = 0,
    zero_infinity: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The negative log-likelihood, [N], and the logarithm of the forward variables, [T, N, 2 S + 1]."""
    places = _places(targets, blank)
    emitted = _emissions(log_probs, places)
    skips = _skips(places)
    start = torch.cat([_zero(emitted[0]), torch.full_like(emitted[0, :, 1:], _NEVER)], -1)

    def step(before: torch.Tensor, emitted: torch.Tensor, skips: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        one, two = _shift(before, 1), _shift(before, 2)
        now = _log_sum(before, one, torch.where(skips, two, torch.full_like(two, _NEVER))) + emitted
        return now, now.clone()

    _, variables = torch.ops.higher_order.scan(lambda *values: list(step(*values)), [start], [emitted], (skips,))
    after = torch.cat([start.unsqueeze(0), variables]).gather(0, _at_step(input_lengths, start)).squeeze(0)
    last = 2 * target_lengths.unsqueeze(1)
    blank_last = after.gather(1, last)
    label_last = after.gather(1, (last - 1).clamp(min=0))
    label_last = torch.where(last > 0, label_last, torch.full_like(label_last, _NEVER))
    nothing = torch.full_like(label_last, _NEVER)
    return -_log_sum(blank_last, label_last, nothing).squeeze(1), variables


@decomposition(
    _aten._ctc_loss_backward.Tensor,
    samples=[_SAMPLE],
)
def ctc_loss_of_rows_backward(
    grad: torch.Tensor,
    log_probs: torch.Tensor,
    targets: torch.Tensor,
    input_lengths: torch.Tensor,
    target_lengths: torch.Tensor,
    neg_log_likelihood: torch.Tensor,
    log_alpha: torch.Tensor,
    blank: int,
    zero_infinity: bool = False,
) -> torch.Tensor:
    """Minus the share of the alignments through each label at each time, plus the label's probability. As in torch,
    this is the gradient with respect to the activations before the softmax."""
    places = _places(targets, blank)
    emitted = _emissions(log_probs, places)
    skips = _shift(_skips(places), -2, fill=False)
    number = torch.arange(places.shape[1], device=places.device)
    end = number == 2 * target_lengths.unsqueeze(1)
    start = torch.where(end, torch.zeros_like(emitted[0]), torch.full_like(emitted[0], _NEVER))
    times = torch.arange(log_probs.shape[0], device=log_probs.device)

    def step(
        after: torch.Tensor,
        emitted: torch.Tensor,
        time: torch.Tensor,
        start: torch.Tensor,
        skips: torch.Tensor,
        lengths: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        after = torch.where((time >= lengths - 1).unsqueeze(1), start, after)
        one, two = _shift(after, -1), _shift(after, -2)
        now = _log_sum(after, one, torch.where(skips, two, torch.full_like(two, _NEVER))) + emitted
        return now, now.clone()

    _, backwards = torch.ops.higher_order.scan(
        lambda *values: list(step(*values)),
        [start.clone()],
        [emitted.flip(0), times.flip(0)],
        (start, skips, input_lengths),
    )
    through = (log_alpha + backwards.flip(0) + neg_log_likelihood.unsqueeze(1) - emitted).exp()
    through = torch.where(emitted == _NEVER, torch.zeros_like(through), through)
    index = places.unsqueeze(0).expand(through.shape)
    share = torch.zeros_like(log_probs).scatter_add(2, index, through)
    gradient = (log_probs.exp() - share) * grad.unsqueeze(1)
    endless = (neg_log_likelihood == float("inf")).unsqueeze(1)
    gradient = torch.where(endless, torch.full_like(gradient, 0.0 if zero_infinity else float("nan")), gradient)
    gradient = torch.where(log_probs == _NEVER, torch.full_like(gradient, float("nan")), gradient)  # as in torch
    used = (times.unsqueeze(1) < input_lengths).unsqueeze(2)
    return torch.where(used, gradient, torch.zeros_like(gradient))


def _places(targets: torch.Tensor, blank: int) -> torch.Tensor:
    """The labels with a blank before and after each, [N, 2 S + 1]."""
    targets = targets.to(torch.int64)
    pairs = torch.stack([torch.full_like(targets, blank), targets], 2).flatten(1)
    return torch.cat([pairs, torch.full((targets.shape[0], 1), blank, dtype=torch.int64, device=targets.device)], 1)


def _emissions(log_probs: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """The logarithm of the probability of each place's label at each time, [T, N, 2 S + 1]."""
    return log_probs.gather(2, places.unsqueeze(0).expand(log_probs.shape[0], *places.shape))


def _skips(places: torch.Tensor) -> torch.Tensor:
    """True where an alignment may skip the blank before a label: the label differs from the previous label."""
    return _shift(places, 2, fill=-1).ne(places) & (torch.arange(places.shape[1], device=places.device) > 1)


def _shift(row: torch.Tensor, by: int, fill: float | bool = _NEVER) -> torch.Tensor:
    """Each row shifted right by `by` places (left if negative); empty places get `fill`."""
    length = row.shape[1]
    source = torch.arange(length, device=row.device) - by
    inside = (source >= 0) & (source < length)
    return torch.where(inside, row.index_select(1, source.clamp(min=0, max=length - 1)), torch.full_like(row, fill))


def _log_sum(*terms: torch.Tensor) -> torch.Tensor:
    largest = torch.stack(terms).amax(0)
    largest = torch.where(largest == _NEVER, torch.zeros_like(largest), largest)
    return torch.stack([(term - largest).exp() for term in terms]).sum(0).log() + largest


def _at_step(lengths: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return lengths.reshape(1, -1, 1).expand(1, *like.shape)


def _zero(like: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(like[:, :1])
