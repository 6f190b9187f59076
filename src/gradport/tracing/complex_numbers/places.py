"""Operators that create, move, join and view complex numbers: applied to each part separately."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from gradport.compat.torch.operators import argument_names, aten, drop_absent, prims
from gradport.tracing.complex_numbers.parts import REAL, Parts, as_parts, pair, parts_rule, without_complex_dtype

__all__ = ["conj", "polar"]

_VALUES = {"self", "other", "input", "value", "values", "fill_value", "src", "source", "tensors", "grad", "grad_output"}
"""Names of arguments that hold values of the result: a real argument has an imaginary part of zero."""

_PART_BY_PART = drop_absent(
    aten._unsafe_view.default,
    aten._reshape_copy.default,
    aten.add.Tensor,
    aten.alias.default,
    aten.cat.default,
    aten.clone.default,
    aten.constant_pad_nd.default,
    aten.copy.default,
    aten.cumsum.default,
    aten.detach.default,
    aten.diag_embed.default,
    aten.diagonal.default,
    aten.empty_like.default,
    aten.expand.default,
    aten.fill.Scalar,
    aten.fill.Tensor,
    aten.flip.default,
    aten.full_like.default,
    aten.gather.default,
    aten.index.Tensor,
    aten.index_add.default,
    aten.index_put.default,
    aten.index_select.default,
    aten.lift_fresh_copy.default,
    aten.masked_fill.Scalar,
    aten.masked_fill.Tensor,
    aten.masked_scatter.default,
    aten.mean.default,
    aten.mean.dim,
    aten.neg.default,
    aten.new_empty.default,
    aten.new_full.default,
    aten.new_zeros.default,
    aten.new_ones.default,
    aten.ones_like.default,
    aten.permute.default,
    aten.reflection_pad1d.default,
    aten.reflection_pad2d.default,
    aten.repeat.default,
    aten.replication_pad1d.default,
    aten.replication_pad2d.default,
    aten.roll.default,
    aten.rsub.Tensor,
    aten.scatter.src,
    aten.scatter.value,
    aten.scatter_add.default,
    aten.select.int,
    aten.select_backward.default,
    aten.select_scatter.default,
    aten.slice.Tensor,
    aten.slice_backward.default,
    aten.slice_scatter.default,
    aten.split.Tensor,
    aten.split_with_sizes.default,
    aten.squeeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.stack.default,
    aten.sub.Tensor,
    aten.sum.default,
    aten.sum.dim_IntList,
    aten.t.default,
    aten.transpose.int,
    aten.tril.default,
    aten.triu.default,
    aten.unbind.int,
    aten.unfold.default,
    aten.unfold_backward.default,
    aten.unsqueeze.default,
    aten.where.self,
    aten.zeros_like.default,
)
"""Operators that are linear in their values, with real factors: applied to each part separately."""


def _rule_for_parts(overload: Any) -> Callable[..., Any]:
    names = argument_names(overload)

    def rule(*args: Any, **kwargs: Any) -> Any:
        kwargs = without_complex_dtype(kwargs)
        results = []
        for at in (0, 1):
            own = [_choose(value, name, at) for value, name in zip(args, names, strict=False)]
            results.append(overload(*own, **{name: _choose(value, name, at) for name, value in kwargs.items()}))
        if isinstance(results[0], (list, tuple)):
            return [Parts(*both) for both in zip(*results, strict=True)]
        return Parts(*results)

    return rule


def _choose(value: Any, name: str, at: int) -> Any:
    if isinstance(value, (list, tuple)) and not isinstance(value, Parts):
        return [_choose(one, name, at) for one in value]
    if isinstance(value, Parts):
        return value[at]
    if value is None or isinstance(value, (bool, str)) or name not in _VALUES:
        return value
    return as_parts(value)[at]


for _overload in _PART_BY_PART:
    parts_rule(_overload)(_rule_for_parts(_overload))


@parts_rule(*drop_absent(aten.view.default, aten.reshape.default))
def view(self: Parts, size: Sequence[Any]) -> Parts:
    return Parts(self.real.reshape(size), self.imag.reshape(size))


@parts_rule(*drop_absent(aten.new_empty_strided.default, aten.empty_strided.default))
def empty_strided(self: Any, *args: Any, dtype: torch.dtype | None = None, **options: Any) -> Parts:
    """An empty tensor; a graph has no strides."""
    if isinstance(self, Parts):
        return Parts(*(part.new_empty(args[0]) for part in self))
    assert dtype is not None
    return fill(self, dtype=dtype)


@parts_rule(*drop_absent(aten.ones_like.default))
def ones_like(self: Parts, **options: Any) -> Parts:
    return Parts(torch.ones_like(self.real), torch.zeros_like(self.imag))


@parts_rule(*drop_absent(aten.new_ones.default))
def new_ones(self: Parts, size: Sequence[Any], **options: Any) -> Parts:
    return Parts(self.real.new_ones(size), self.imag.new_zeros(size))


@parts_rule(*drop_absent(aten.full.default, aten.zeros.default, aten.ones.default, aten.empty.memory_format))
def fill(size: Sequence[Any], fill_value: Any = 0, *, dtype: torch.dtype, **options: Any) -> Parts:
    number = as_parts(fill_value)
    real = REAL[dtype]
    return Parts(torch.full(size, number.real, dtype=real), torch.full(size, number.imag, dtype=real))


@parts_rule(*drop_absent(aten.scalar_tensor.default))
def scalar_tensor(value: Any, *, dtype: torch.dtype, **options: Any) -> Parts:
    return fill((), value, dtype=dtype)


@parts_rule(*drop_absent(aten._to_copy.default))
def to_copy(self: Any, *, dtype: torch.dtype | None = None, **options: Any) -> Any:
    """Converts the dtype; a real dtype keeps the real part, as torch does after a warning."""
    if dtype is None:
        return Parts(self.real.clone(), self.imag.clone())
    if not dtype.is_complex:
        return self.real.to(dtype, copy=True)
    if isinstance(self, Parts):
        return Parts(*(part.to(REAL[dtype], copy=True) for part in self))
    return as_parts(self.to(REAL[dtype], copy=True))


@parts_rule(*drop_absent(aten.view_as_real.default, aten.view_as_real_copy.default))
def view_as_real(self: Parts) -> torch.Tensor:
    return pair(self)


@parts_rule(*drop_absent(aten.view_as_complex.default, aten.view_as_complex_copy.default))
def view_as_complex(self: torch.Tensor) -> Parts:
    return Parts(self.select(-1, 0), self.select(-1, 1))


@parts_rule(*drop_absent(aten.real.default))
def real(self: Parts) -> torch.Tensor:
    """The real part."""
    return self.real.clone()


@parts_rule(*drop_absent(aten.imag.default))
def imag(self: Parts) -> torch.Tensor:
    return self.imag.clone()


@parts_rule(*drop_absent(aten.complex.default))
def complex_of(real: torch.Tensor, imag: torch.Tensor) -> Parts:
    return Parts(real + torch.zeros_like(imag), imag + torch.zeros_like(real))


@parts_rule(*drop_absent(aten.polar.default))
def polar(abs: torch.Tensor, angle: torch.Tensor) -> Parts:
    """The complex number with this magnitude and angle."""
    return Parts(abs * angle.cos(), abs * angle.sin())


@parts_rule(
    *drop_absent(
        aten._conj.default,
        aten._conj_physical.default,
        aten.conj_physical.default,
        aten.conj.default,
        prims.conj_physical.default,
    )
)
def conj(self: Parts) -> Parts:
    """The conjugate, as new tensors: torch's is a view, which a graph does not have."""
    return Parts(self.real.clone(), -self.imag)


@parts_rule(*drop_absent(aten.resolve_conj.default, aten.resolve_neg.default))
def resolve(self: Parts) -> Parts:
    return Parts(self.real.clone(), self.imag.clone())
