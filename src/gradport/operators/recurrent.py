"""LSTM layers, whose backward computes everything that does not depend on the previous step over the whole sequence.

torch's decomposition computes one product per step for the weight gradient, and sums them. Here the weight gradient is
one product over all steps.

Source: S. Hochreiter, J. Schmidhuber, "Long Short-Term Memory", 1997;
https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.utils import rnn

from gradport.compat.torch import sequences
from gradport.operators.samples import reals, sample
from gradport.operators.table import OwnBackward, replacement

__all__: list[str] = []

_PACKED = sample(
    lambda x: rnn.pad_packed_sequence(rnn.pack_padded_sequence(x, torch.tensor([3, 2]), batch_first=True))[0],
    reals(2, 3, "n"),
)

_Step = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


@replacement(
    torch.lstm,
    samples=[
        sample(
            lambda x, h, c, w, u: torch.lstm(x, (h, c), (w, u), False, 1, 0.0, False, False, True),
            reals("n", 3, 2),
            reals(1, "n", 2),
            reals(1, "n", 2),
            reals(8, 2),
            reals(8, 2),
        )
    ],
)
def lstm(*arguments: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The LSTM, layer by layer; packed sequences and projections use torch's decomposition."""
    if not isinstance(arguments[2], (tuple, list)) or _is_projected(*arguments[1:3]):
        result: tuple[torch.Tensor, torch.Tensor, torch.Tensor] = torch.lstm(*arguments)
        return result
    return _layers(*arguments)


def _is_projected(state: Sequence[torch.Tensor], weights: Sequence[torch.Tensor]) -> bool:
    return weights[1].shape[0] != 4 * weights[1].shape[1] or state[0].shape[-1] != state[1].shape[-1]


def _layers(
    input: torch.Tensor,
    state: Sequence[torch.Tensor],
    weights: Sequence[torch.Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    x = input.transpose(0, 1) if batch_first else input
    ways, each = (2 if bidirectional else 1), (4 if has_biases else 2)
    hidden, cells = [], []
    for layer in range(num_layers):
        outputs = []
        for way in range(ways):
            at = layer * ways + way
            own = weights[at * each : (at + 1) * each]
            result, last = _one_way(x.flip(0) if way else x, state[0][at], state[1][at], *own)
            hidden.append(result[-1])
            cells.append(last)
            outputs.append(result.flip(0) if way else result)
        x = torch.cat(outputs, -1) if bidirectional else outputs[0]
        if dropout and train and layer < num_layers - 1:
            x = F.dropout(x, dropout)
    return x.transpose(0, 1) if batch_first else x, torch.stack(hidden), torch.stack(cells)


def _one_way(
    x: torch.Tensor,
    h: torch.Tensor,
    c: torch.Tensor,
    by_input: torch.Tensor,
    by_hidden: torch.Tensor,
    *biases: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states (T, B, H) and the last cells. Gate order: input, forget, output, cell; three share a sigmoid."""
    bias = _reorder(biases[0] + biases[1]) if biases else None
    gates = F.linear(x, _reorder(by_input), bias)
    y, last = _Recurrence.apply(gates, _reorder(by_hidden), h, c)
    return y, last


def _reorder(rows: torch.Tensor) -> torch.Tensor:
    first, cell, output = rows.split([rows.shape[0] // 2, rows.shape[0] // 4, rows.shape[0] // 4])
    return torch.cat([first, output, cell])


class _Recurrence(OwnBackward):
    """Computes all hidden states (T, B, H) and the last cells (B, H) from the input's part of the gates (T, B, 4H), the
    hidden weight (4H, H) and the first state."""

    @staticmethod
    def forward(
        ctx: Any, gates: torch.Tensor, weight: torch.Tensor, h: torch.Tensor, c: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        steps = _run(gates, weight, h, c)
        before = torch.cat([h, *(step[0] for step in steps[:-1])]), torch.cat([c, *(step[1] for step in steps[:-1])])
        activations = [torch.cat([step[part] for step in steps]) for part in (2, 3, 4)]
        ctx.save_for_backward(gates, weight, h, c, *before, *activations)
        return _results(steps, gates)

    @staticmethod
    def backward(ctx: Any, dy: torch.Tensor, dc: torch.Tensor) -> tuple[torch.Tensor, ...]:
        gates, weight, h, c, hidden, cells, sigmoids, inner, squashed = ctx.saved_tensors
        if torch.is_grad_enabled():  # second derivative: the saved tensors have no graph
            return _differentiable((gates, weight, h, c), (dy, dc))
        length, batch, size = gates.shape[0], gates.shape[1], weight.shape[1]
        let_in, forget, let_out = sigmoids.split([size] * 3, 1)
        slopes_in, slopes_forget, slopes_out = (sigmoids * (1 - sigmoids)).split([size] * 3, 1)
        by_step = [
            let_out * (1 - squashed * squashed),
            forget,
            inner * slopes_in,
            cells * slopes_forget,
            squashed * slopes_out,
            let_in * (1 - inner * inner),
            dy.reshape(-1, size),
        ]
        parts = zip(*(whole.split([batch] * length) for whole in by_step), strict=True)
        dh: torch.Tensor | None = None
        gate_gradients = []
        for to_cell, keep, to_in, to_forget, to_out, to_inner, cotangent in reversed(list(parts)):
            dh = cotangent if dh is None else cotangent + dh
            dc = dh * to_cell + dc
            gate_gradients.append(torch.cat([dc * to_in, dc * to_forget, dh * to_out, dc * to_inner], 1))
            dh, dc = gate_gradients[-1] @ weight, dc * keep
        assert dh is not None
        every = torch.cat(gate_gradients[::-1])
        return every.view(gates.shape), every.t() @ hidden, dh, dc


def _run(gates: torch.Tensor, weight: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> list[_Step]:
    """For each step: hidden state, cells, the three sigmoids, the cell gate, and the tanh of the cells."""
    steps = []
    length, batch, size = gates.shape[0], gates.shape[1], weight.shape[1]
    turned = weight.t()
    for own in gates.reshape(-1, 4 * size).split([batch] * length):
        whole = torch.addmm(own, h, turned)
        three, inner = whole.split([3 * size, size], 1)
        sigmoids, inner = torch.sigmoid(three), torch.tanh(inner)
        let_in, forget, let_out = sigmoids.split([size] * 3, 1)
        c = forget * c + let_in * inner
        squashed = torch.tanh(c)
        h = let_out * squashed
        steps.append((h, c, sigmoids, inner, squashed))
    return steps


def _results(steps: list[_Step], gates: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Every hidden state, (T, B, H), and the last cells."""
    last = steps[-1]
    return torch.cat([step[0] for step in steps]).view(*gates.shape[:2], last[0].shape[1]), last[1]


def _differentiable(
    inputs: tuple[torch.Tensor, ...], cotangents: tuple[torch.Tensor, torch.Tensor]
) -> tuple[torch.Tensor, ...]:
    gates, weight, h, c = inputs
    results = _results(_run(gates, weight, h, c), gates)
    wanted = [tensor for tensor in inputs if tensor.requires_grad]
    gradients = iter(torch.autograd.grad(results, wanted, cotangents, create_graph=True))
    return tuple(next(gradients) if tensor.requires_grad else torch.zeros_like(tensor) for tensor in inputs)


@replacement(
    sequences.pack_padded_sequence,
    samples=[_PACKED],
)
def pack_padded_sequence(
    input: torch.Tensor, lengths: torch.Tensor, batch_first: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """The rows of each time that belong to a sequence, and their number; the lengths are constants.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.rnn.pack_padded_sequence.html
    """
    counts = lengths.tolist()
    steps = (input.transpose(0, 1) if batch_first else input)[: max(counts)]
    sizes = [sum(count > time for count in counts) for time in range(max(counts))]
    return torch.cat([steps[time, :size] for time, size in enumerate(sizes)]), torch.tensor(sizes)


@replacement(
    sequences.pad_packed_sequence,
    samples=[_PACKED],
)
def pad_packed_sequence(
    data: torch.Tensor, batch_sizes: torch.Tensor, batch_first: bool, padding_value: float, total_length: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The inverse: (time, batch, ...), padded after the end of each sequence, and the lengths.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.rnn.pad_packed_sequence.html
    """
    sizes = batch_sizes.tolist()
    length = max(total_length, len(sizes))
    missing = [sizes[0] - size for size in sizes] + [sizes[0]] * (length - len(sizes))
    rows = [*data.split(sizes), *(data[:0] for _ in range(length - len(sizes)))]
    steps = [
        torch.cat([row, torch.full((count, *data.shape[1:]), padding_value, dtype=data.dtype)]) if count else row
        for row, count in zip(rows, missing, strict=True)
    ]
    padded = torch.stack(steps)
    lengths = [sum(size > row for size in sizes) for row in range(sizes[0])]
    return padded.transpose(0, 1) if batch_first else padded, torch.tensor(lengths)
