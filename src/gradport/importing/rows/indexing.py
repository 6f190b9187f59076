"""Elements by index: gathering and scattering."""

from __future__ import annotations

import torch

from gradport.importing.table import translation

Tensor = torch.Tensor

_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def _positive(places: Tensor, size: int) -> Tensor:
    places = places.to(torch.int64)
    return torch.where(places < 0, places + size, places)


@translation("Gather")
def gather(x: Tensor, indices: Tensor, /, *, axis: int = 0) -> Tensor:
    axis %= x.dim()
    places = _positive(indices, x.shape[axis])
    found = x.index_select(axis, places.reshape(-1))
    return found.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


@translation("GatherElements")
def gather_elements(x: Tensor, indices: Tensor, /, *, axis: int = 0) -> Tensor:
    return x.gather(axis, _positive(indices, x.shape[axis]))


@translation("GatherND")
def gather_nd(x: Tensor, indices: Tensor, /, *, batch_dims: int = 0) -> Tensor:
    return x[_index(x, indices, batch_dims)]


def _index(x: Tensor, indices: Tensor, batch_dims: int) -> tuple[Tensor, ...]:
    """An index for torch: one tensor for each batch dimension, then one for each column of the indices."""
    rank = indices.dim() - 1
    batch = []
    for at in range(batch_dims):
        shape = [1] * rank
        shape[at] = x.shape[at]
        batch.append(torch.arange(x.shape[at]).reshape(shape))
    columns = [_positive(indices[..., at], x.shape[batch_dims + at]) for at in range(indices.shape[-1])]
    return (*batch, *columns)


@translation("Scatter", "ScatterElements")
def scatter_elements(
    x: Tensor, indices: Tensor, updates: Tensor, /, *, axis: int = 0, reduction: str = "none"
) -> Tensor:
    places = _positive(indices, x.shape[axis])
    if reduction == "none":
        return x.scatter(axis, places, updates)
    return x.scatter_reduce(axis, places, updates, _REDUCTIONS[reduction])


@translation("ScatterND")
def scatter_nd(x: Tensor, indices: Tensor, updates: Tensor, /, *, reduction: str = "none") -> Tensor:
    index = _index(x, indices, 0)
    if reduction in ("none", "add"):
        return x.index_put(index, updates, accumulate=reduction == "add")
    depth = len(index)
    place = torch.zeros((), dtype=torch.int64)
    for at, one in enumerate(index):
        place = place * x.shape[at] + one
    rows = x.reshape(-1, *x.shape[depth:])
    own = place.reshape(-1, *[1] * (rows.dim() - 1)).expand(place.numel(), *rows.shape[1:])
    return rows.scatter_reduce(0, own, updates.reshape(own.shape), _REDUCTIONS[reduction]).reshape(x.shape)


@translation("TensorScatter")
def tensor_scatter(
    past: Tensor, update: Tensor, write: Tensor | None = None, /, *, axis: int = -2, mode: str = "linear"
) -> Tensor:
    """Writes a piece of each sequence at a place of its own; circular: around the end."""
    axis %= past.dim()
    batch, count = past.shape[0], update.shape[axis]
    first = torch.zeros(batch, dtype=torch.int64) if write is None else write
    place = first.unsqueeze(1) + torch.arange(count)
    place = place % past.shape[axis] if mode == "circular" else place
    shape = [1] * past.dim()
    shape[0], shape[axis] = batch, count
    return past.scatter(axis, place.reshape(shape).expand(update.shape), update)
