"""Sequences packed by time, whose lengths are constants."""

from __future__ import annotations

import torch

from gradport.compat.torch import sequences
from gradport.operators.written.registry import written


@written(sequences.pack_padded_sequence)
def pack_padded_sequence(
    input: torch.Tensor, lengths: torch.Tensor, batch_first: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """The rows of each time that are within their sequence, and how many there are; the lengths are constants.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.rnn.pack_padded_sequence.html
    """
    counts = lengths.tolist()
    steps = (input.transpose(0, 1) if batch_first else input)[: max(counts)]
    sizes = [sum(count > time for count in counts) for time in range(max(counts))]
    return torch.cat([steps[time, :size] for time, size in enumerate(sizes)]), torch.tensor(sizes)


@written(sequences.pad_packed_sequence)
def pad_packed_sequence(
    data: torch.Tensor, batch_sizes: torch.Tensor, batch_first: bool, padding_value: float, total_length: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The inverse: (time, batch, ...), the padding value after the end of each sequence, and the lengths.

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
