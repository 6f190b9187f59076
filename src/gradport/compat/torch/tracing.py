"""The trace: forward and backward of a function as one functional graph of ATen operators.

Private in torch, and used here:
- `torch._subclasses.functional_tensor.dispatch_functionalize`: functionalizes a function below autograd;
- `torch._dispatch.python.enable_python_dispatcher`: composite operators in Python, where sizes may be symbolic;
- `torch._export.utils._compiling_state_context`: what `torch.compiler.is_compiling` reads;
- `FunctionalTensor.__new__` and `disable_proxy_modes_tracing`: wrapping a tensor compares sizes; the graph does not
  need these comparisons;
- `FunctionalTensor.tolist`: bypasses the modes that know the values of constants, so it is replaced while tracing;
- `torch.distributions.Distribution._validate_args`: the default that `set_default_validate_args` sets;
- `torch._C._current_autograd_node`: the operator whose backward is running;
- `torch._library.simple_registry`: operators with side effects; the effect of `_linalg_check_errors` is removed;
- `torch.fx.experimental.proxy_tensor.make_fx` and `get_proxy_mode`: the trace, and its graph;
- `torch._subclasses.fake_tensor.FakeTensorMode`, `ShapeEnv`, `StatelessSymbolicContext`: tensors of symbolic size.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.fx
from torch._dispatch.python import enable_python_dispatcher
from torch._export.utils import _compiling_state_context
from torch._library import simple_registry
from torch._subclasses.fake_tensor import FakeTensorMode
from torch._subclasses.functional_tensor import FunctionalTensor, FunctionalTensorMode, dispatch_functionalize
from torch.fx.experimental import _config as fx_config
from torch.fx.experimental.proxy_tensor import (
    disable_proxy_modes_tracing,
    get_proxy_mode,
    make_fx,
    maybe_enable_thunkify,
)
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext
from torch.utils._python_dispatch import _disable_current_modes

from gradport.compat.torch.resizing import known_gradients
from gradport.compat.torch.size_arithmetic import remember_size_arithmetic

__all__ = [
    "current_forward_sequence",
    "current_sequence",
    "fake_mode",
    "fake_tensor",
    "has_data",
    "observe_new_nodes",
    "restore_validation",
    "trace_function",
    "without_collection",
    "without_modes",
]


def fake_mode() -> FakeTensorMode:
    """A new mode for tensors without data; its shape environment does not specialize the sizes 0 and 1."""
    return FakeTensorMode(shape_env=ShapeEnv(specialize_zero_one=False), allow_non_fake_inputs=True)


def fake_tensor(mode: FakeTensorMode, tensor: torch.Tensor, dynamic: Sequence[int]) -> torch.Tensor:
    """The fake tensor of `tensor`; each axis in `dynamic` has a new symbolic size."""
    sizes = [DimDynamic.DYNAMIC if axis in dynamic else DimDynamic.STATIC for axis in range(tensor.dim())]
    context = StatelessSymbolicContext(dynamic_sizes=sizes)
    return mode.from_tensor(tensor.detach(), symbolic_context=context)


def has_data(tensor: torch.Tensor) -> bool:
    """Whether a tensor is a real tensor, not a fake tensor of a trace."""
    return type(tensor) in (torch.Tensor, torch.nn.Parameter)


@contextlib.contextmanager
def without_modes() -> Iterator[None]:
    """While open, operators run as outside a trace, on tensors with data."""
    with _disable_current_modes():
        yield


def trace_function(
    function: Callable[..., Any],
    fakes: Sequence[torch.Tensor],
    mode: FakeTensorMode,
    table: Mapping[Any, Any],
) -> torch.fx.GraphModule:
    """Traces `function` to a functional, decomposed ATen graph, autograd included.

    Args:
        function: flat tensors in, flat tensors out.
        fakes: its arguments.
        mode: the mode of the fake tensors.
        table: decompositions.
    """

    def run(*tensors: torch.Tensor) -> Any:
        with maybe_enable_thunkify():  # sizes that no operator reads are not in the graph
            return function(*tensors)

    tracer = make_fx(
        dispatch_functionalize(run, mode=FunctionalTensorMode()),
        decomposition_table=table,
        tracing_mode="real",
        _allow_non_fake_inputs=True,
        _error_on_data_dependent_ops=False,  # fake tensors reject data-dependent operators
    )
    with (
        mode,
        enable_python_dispatcher(),  # composite operators keep symbolic sizes
        fx_config.patch(backed_size_oblivious=True),
        _compiling_state_context(),  # code that asks torch.compiler.is_compiling() takes its traceable branch
        _traceable_kernels(),
        _traceable_reads(),
        _hide_wrapping(),
        remember_size_arithmetic(),
        without_collection(),
    ):
        return tracer(*fakes)


@contextlib.contextmanager
def without_collection() -> Iterator[None]:
    """Pauses garbage collection while a graph grows: the graph has no garbage, and each collection walks all of it."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@contextlib.contextmanager
def _hide_wrapping() -> Iterator[None]:
    """Keeps the comparisons of sizes and strides that torch makes when it wraps a tensor out of the graph."""
    wrap = FunctionalTensor.__new__

    def wrap_unseen(cls: type, elem: torch.Tensor, mode: Any) -> Any:
        with disable_proxy_modes_tracing():
            return wrap(cls, elem, mode)

    FunctionalTensor.__new__ = wrap_unseen  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        FunctionalTensor.__new__ = wrap  # type: ignore[method-assign]


@contextlib.contextmanager
def _traceable_reads() -> Iterator[None]:
    """Makes `tolist` read single elements, and turns off validation of distributions, which branches on values."""
    reads = FunctionalTensor.tolist
    with restore_validation():
        torch.distributions.Distribution.set_default_validate_args(False)
        FunctionalTensor.tolist = _tolist  # type: ignore[method-assign]
        try:
            yield
        finally:
            FunctionalTensor.tolist = reads  # type: ignore[method-assign]


@contextlib.contextmanager
def restore_validation() -> Iterator[None]:
    """Restores the default validation of distributions on exit; torch.compile turns it off permanently."""
    before = torch.distributions.Distribution._validate_args
    try:
        yield
    finally:
        torch.distributions.Distribution.set_default_validate_args(before)


def _tolist(tensor: torch.Tensor) -> Any:
    return [_tolist(row) for row in tensor.unbind()] if tensor.dim() else tensor.item()


@contextlib.contextmanager
def _traceable_kernels() -> Iterator[None]:
    """Runs attention and recurrent layers without fused kernels, which do not decompose. Scripted code runs without
    optimization: the optimizer's profile would fix every size."""
    with (
        torch.jit.optimized_execution(False),
        torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
        torch.backends.mkldnn.flags(enabled=False),
        torch.backends.nnpack.flags(enabled=False),  # nnpack would branch on batch < 16
        _without_effect("aten::_linalg_check_errors"),
        known_gradients(),
    ):
        yield


@contextlib.contextmanager
def _without_effect(name: str) -> Iterator[None]:
    """Removes the side effect of an operator that raises on bad values, so that the trace may drop the operator."""
    holder: Any = simple_registry.singleton.find(name).effect
    effect = holder.effect
    holder.register(None)
    try:
        yield
    finally:
        holder.register(effect)


def observe_new_nodes(visit: Callable[[torch.fx.Node], None]) -> None:
    """Calls `visit` for every node that the running trace adds from now on."""
    mode = get_proxy_mode()
    assert mode is not None
    graph = mode.tracer.graph  # type: ignore[attr-defined]
    create = graph.create_node

    def create_node(*args: Any, **kwargs: Any) -> torch.fx.Node:
        node = create(*args, **kwargs)
        visit(node)
        return node

    graph.create_node = create_node


def current_forward_sequence() -> int:
    """Autograd's sequence number of the operator whose forward is running."""
    return int(torch.autograd._get_sequence_nr()) - 1


def current_sequence() -> int | None:
    """Autograd's sequence number of the operator whose backward is running; None outside a backward."""
    node = torch._C._current_autograd_node()
    return None if node is None else int(node._sequence_nr())
