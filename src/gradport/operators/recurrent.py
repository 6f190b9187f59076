"""Recurrent layers: LSTM, GRU and RNN, one direction of a layer after the other, and packed sequences.

torch's decomposition unrolls the sequence, which fixes its length and computes one product per step for the weight
gradient. Here a direction is a Scan forward and a Scan backward (`recurrent_cells`).

Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.utils import rnn

from gradport.compat.torch import sequences
from gradport.operators.recurrent_cells import GRU, LSTM, RNN
from gradport.operators.samples import Sample, reals, sample
from gradport.operators.table import replacement

__all__: list[str] = []

_PACKED = sample(
    lambda x: rnn.pad_packed_sequence(rnn.pack_padded_sequence(x, torch.tensor([3, 2]), batch_first=True))[0],
    reals(2, 3, "n"),
)

Direction = Callable[..., tuple[torch.Tensor, tuple[torch.Tensor, ...]]]
"""One direction of a layer: takes whether the last row comes first, the input, (T, B, I), the first state, each (B, H),
and the weights; returns the hidden states, (T, B, H), and the last state."""


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
def lstm(*arguments: Any) -> tuple[torch.Tensor, ...]:
    """The LSTM, layer by layer; packed sequences and projections use torch's decomposition."""
    if _is_packed(arguments) or _is_projected(*arguments[1:3]):
        result: tuple[torch.Tensor, ...] = torch.lstm(*arguments)
        return result
    return _layers(_lstm_direction, *arguments)


def _is_packed(arguments: Sequence[Any]) -> bool:
    """Whether the arguments are data, batch sizes, state, weights; otherwise input, state, weights."""
    return not isinstance(arguments[2], (tuple, list))


def _is_projected(state: Sequence[torch.Tensor], weights: Sequence[torch.Tensor]) -> bool:
    return weights[1].shape[0] != 4 * weights[1].shape[1] or state[0].shape[-1] != state[1].shape[-1]


@replacement(
    torch.gru,
    samples=[
        sample(
            lambda x, h, w, u, b: torch.gru(x, h, (w, u, b, b + 1), True, 1, 0.0, False, False, True),
            reals("n", 3, 2),
            reals(1, "n", 2),
            reals(6, 2),
            reals(6, 2),
            reals(6),
        )
    ],
)
def gru(*arguments: Any) -> tuple[torch.Tensor, ...]:
    """The GRU, layer by layer; packed sequences use torch's decomposition."""
    return _with_one_state(torch.gru, _gru_direction, arguments)


def _with_one_state(
    original: Callable[..., tuple[torch.Tensor, ...]], direction: Direction, arguments: Sequence[Any]
) -> tuple[torch.Tensor, ...]:
    if _is_packed(arguments):
        return original(*arguments)
    return _layers(direction, arguments[0], (arguments[1],), *arguments[2:])


def _sample_of(layer: Callable[..., Any]) -> Sample:
    return sample(
        lambda x, h, w, u: layer(x, h, (w, u), False, 1, 0.0, False, False, True),
        reals("n", 3, 2, low=-1, high=1),
        reals(1, "n", 2, low=-1, high=1),
        reals(2, 2, low=-1, high=1),
        reals(2, 2, low=-1, high=1),
    )


@replacement(torch.rnn_tanh, samples=[_sample_of(torch.rnn_tanh)])
def rnn_tanh(*arguments: Any) -> tuple[torch.Tensor, ...]:
    """The recurrent layer with tanh; packed sequences use torch's decomposition."""
    return _with_one_state(torch.rnn_tanh, functools.partial(_rnn_direction, False), arguments)


@replacement(torch.rnn_relu, samples=[_sample_of(torch.rnn_relu)])
def rnn_relu(*arguments: Any) -> tuple[torch.Tensor, ...]:
    """The recurrent layer with relu; packed sequences use torch's decomposition."""
    return _with_one_state(torch.rnn_relu, functools.partial(_rnn_direction, True), arguments)


def _layers(
    direction: Direction,
    input: torch.Tensor,
    state: Sequence[torch.Tensor],
    weights: Sequence[torch.Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[torch.Tensor, ...]:
    """The output, and each tensor of the last state."""
    x = input.transpose(0, 1) if batch_first else input
    ways, each = (2 if bidirectional else 1), (4 if has_biases else 2)
    states = []
    for layer in range(num_layers):
        outputs = []
        for way in range(ways):
            at = layer * ways + way
            own = weights[at * each : (at + 1) * each]
            result, last = direction(bool(way), x, [tensor[at] for tensor in state], *own)
            states.append(last)
            outputs.append(result)
        x = torch.cat(outputs, -1) if bidirectional else outputs[0]
        if dropout and train and layer < num_layers - 1:
            x = F.dropout(x, dropout)
    return x.transpose(0, 1) if batch_first else x, *(torch.stack(part) for part in zip(*states, strict=True))


def _lstm_direction(
    reverse: bool,
    x: torch.Tensor,
    state: Sequence[torch.Tensor],
    by_input: torch.Tensor,
    by_hidden: torch.Tensor,
    *biases: torch.Tensor,
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    bias = _reorder(biases[0] + biases[1]) if biases else None
    gates = F.linear(x, _reorder(by_input), bias)
    hidden, cells = LSTM.apply(reverse, gates, _reorder(by_hidden), *state)
    return hidden, (hidden[0 if reverse else -1], cells)


def _reorder(rows: torch.Tensor) -> torch.Tensor:
    """Input, forget, cell, output becomes input, forget, output, cell: three gates share a sigmoid."""
    first, cell, output = rows.split([rows.shape[0] // 2, rows.shape[0] // 4, rows.shape[0] // 4])
    return torch.cat([first, output, cell])


def _gru_direction(
    reverse: bool,
    x: torch.Tensor,
    state: Sequence[torch.Tensor],
    by_input: torch.Tensor,
    by_hidden: torch.Tensor,
    *biases: torch.Tensor,
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    size = by_hidden.shape[1]
    bias = biases[1] if biases else by_hidden.new_zeros(3 * size)
    gates, new = F.linear(x, by_input, biases[0] if biases else None).split([2 * size, size], 2)
    hidden = GRU.apply(reverse, gates, new, by_hidden, bias, *state)
    return hidden, (hidden[0 if reverse else -1],)


def _rnn_direction(
    relu: bool,
    reverse: bool,
    x: torch.Tensor,
    state: Sequence[torch.Tensor],
    by_input: torch.Tensor,
    by_hidden: torch.Tensor,
    *biases: torch.Tensor,
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    bias = biases[0] + biases[1] if biases else None
    hidden = RNN.apply(relu, reverse, F.linear(x, by_input, bias), by_hidden, *state)
    return hidden, (hidden[0 if reverse else -1],)


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
