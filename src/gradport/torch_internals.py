"""The one place that touches what torch keeps private. `test/capture/test_torch_internals.py` names each and fails
loudly when one moves.

Private in torch, and used here:
- `torch._subclasses.functional_tensor.dispatch_functionalize`: runs a function functionalised, autograd above it;
- `torch._dispatch.python.enable_python_dispatcher`: composite operators in Python, where sizes may be symbolic;
- `torch._export.utils._compiling_state_context`: what `torch.compiler.is_compiling` reads;
- `FunctionalTensor.__new__` and `disable_proxy_modes_tracing`: wrapping a tensor compares sizes, which a graph need not
  see;
- `FunctionalTensor.tolist`: reads below the modes that know the values of constants, so it is replaced while tracing;
- `torch.distributions.Distribution._validate_args`: the default that `set_default_validate_args` sets;
- `torch._C._current_autograd_node`: the operator whose backward is running;
- `torch._higher_order_ops.utils._hop_compile_and_call`: where operators with bodies are compiled in eager;
- `torch._library.simple_registry`: operators with an effect, of which `_linalg_check_errors` is dropped;
- `torch.fx.experimental.proxy_tensor.make_fx` and `get_proxy_mode`: the trace, and the graph it writes into;
- `torch._subclasses.fake_tensor.FakeTensorMode`, `ShapeEnv`, `StatelessSymbolicContext`: tensors of symbolic size;
- `torch.autograd.function._SingleLevelFunction.apply`, `BackwardCFunction.apply`: every custom Function passes
  through the one forward and through the other backward, also where `Fn.apply` was bound before the trace;
- `torch.onnx._internal.exporter`: its registry of lowerings, its table of decompositions and its translation of an
  exported graph; `torch.onnx._internal.fx.passes.type_promotion`: its rules of implicit type promotion;
- `torch._guards.detect_fake_mode`: the mode that made a graph's values.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.autograd.function as autograd_function
import torch.fx
import torch.utils.checkpoint
from torch._dispatch.python import enable_python_dispatcher
from torch._export.utils import _compiling_state_context
from torch._guards import detect_fake_mode
from torch._higher_order_ops import utils as control_flow_utils
from torch._library import simple_registry
from torch._subclasses.fake_tensor import FakeTensorMode
from torch._subclasses.functional_tensor import FunctionalTensor, FunctionalTensorMode, dispatch_functionalize
from torch.fx.experimental import _config as fx_config
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing, get_proxy_mode, make_fx
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext
from torch.fx.traceback import preserve_node_meta
from torch.utils._python_dispatch import _disable_current_modes

from gradport.quiet import quiet

__all__ = [
    "called_directly",
    "current_forward_sequence",
    "current_sequence",
    "decompositions",
    "default_opset",
    "each_new_node",
    "fake_mode",
    "fake_tensor",
    "function_calls",
    "has_data",
    "has_lowering",
    "is_running_again",
    "lowerings",
    "promote_types",
    "trace",
    "translate",
    "without_modes",
]

_ASSERTIONS = {
    torch.ops.aten.sym_constrain_range_for_size.default,
    torch.ops.aten._assert_async.default,
    torch.ops.aten._assert_async.msg,
    torch.ops.aten._assert_scalar.default,
    torch.ops.aten._assert_tensor_metadata.default,
}


def fake_mode() -> FakeTensorMode:
    """Tensors without data, with a shape environment of their own that does not specialise the sizes 0 and 1."""
    return FakeTensorMode(shape_env=ShapeEnv(specialize_zero_one=False), allow_non_fake_inputs=True)


def fake_tensor(mode: FakeTensorMode, tensor: torch.Tensor, dynamic: Sequence[int]) -> torch.Tensor:
    """The stand-in of `tensor` whose axes in `dynamic` have symbolic sizes, each a symbol of its own."""
    sizes = [DimDynamic.DYNAMIC if axis in dynamic else DimDynamic.STATIC for axis in range(tensor.dim())]
    context = StatelessSymbolicContext(dynamic_sizes=sizes)
    return mode.from_tensor(tensor.detach(), symbolic_context=context)


def has_data(tensor: torch.Tensor) -> bool:
    """Whether a tensor is a real one, and none of a trace's stand-ins."""
    return type(tensor) in (torch.Tensor, torch.nn.Parameter)


@contextlib.contextmanager
def without_modes() -> Iterator[None]:
    """Runs operators as outside a trace, on tensors with data."""
    with _disable_current_modes():
        yield


def trace(
    function: Callable[..., Any],
    fakes: Sequence[torch.Tensor],
    mode: FakeTensorMode,
    table: Mapping[Any, Any],
) -> torch.fx.GraphModule:
    """The functional, decomposed ATen graph of `function`, autograd included.

    Args:
        function: flat tensors in, flat tensors out.
        fakes: its arguments.
        mode: what made them.
        table: decompositions.
    """
    tracer = make_fx(
        dispatch_functionalize(function, mode=FunctionalTensorMode()),
        decomposition_table=table,
        tracing_mode="real",
        _allow_non_fake_inputs=True,
        _error_on_data_dependent_ops=False,  # the fake tensors refuse what depends on data
    )
    with (
        mode,
        enable_python_dispatcher(),  # composite operators keep symbolic sizes
        fx_config.patch(backed_size_oblivious=True),
        _compiling_state_context(),  # code that asks torch.compiler.is_compiling() takes its traceable way
        _traceable_kernels(),
        _traceable_reads(),
        _wrapped_unseen(),
        _without_collection(),
    ):
        return tracer(*fakes)


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """No garbage collection while a graph grows: nothing of it is garbage, and each pass walks all of it."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@contextlib.contextmanager
def _wrapped_unseen() -> Iterator[None]:
    """Sizes and strides that torch only compares when it wraps a tensor leave no nodes in the graph."""
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
    """`tolist` element by element, and no validation of distributions, which would branch on their arguments."""
    reads = FunctionalTensor.tolist
    with validation_kept():
        torch.distributions.Distribution.set_default_validate_args(False)
        FunctionalTensor.tolist = _tolist  # type: ignore[method-assign]
        try:
            yield
        finally:
            FunctionalTensor.tolist = reads  # type: ignore[method-assign]


@contextlib.contextmanager
def validation_kept() -> Iterator[None]:
    """Whether distributions validate their arguments is afterwards what it was; torch.compile turns it off for good."""
    before = torch.distributions.Distribution._validate_args
    try:
        yield
    finally:
        torch.distributions.Distribution.set_default_validate_args(before)


def _tolist(tensor: torch.Tensor) -> Any:
    return [_tolist(row) for row in tensor.unbind()] if tensor.dim() else tensor.item()


@contextlib.contextmanager
def _traceable_kernels() -> Iterator[None]:
    """Attention through its plain formula and recurrent layers through theirs: the fused kernels do not decompose.
    Scripted code runs unoptimised, for the optimiser's profile would fix every size."""
    with (
        torch.jit.optimized_execution(False),
        torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
        torch.backends.mkldnn.flags(enabled=False),
        torch.backends.nnpack.flags(enabled=False),  # it would ask whether the batch is below 16
        _without_effect("aten::_linalg_check_errors"),
    ):
        yield


@contextlib.contextmanager
def called_directly() -> Iterator[None]:
    """torch.cond, scan and while_loop call their operator itself, where in eager they would compile it first."""
    compiles = control_flow_utils._hop_compile_and_call
    control_flow_utils._hop_compile_and_call = lambda fn, args, kwargs=None: fn(*args, **(kwargs or {}))
    try:
        yield
    finally:
        control_flow_utils._hop_compile_and_call = compiles


@contextlib.contextmanager
def _without_effect(name: str) -> Iterator[None]:
    """Lets an operator that raises on bad values be dropped, where a trace would have to order it among the others."""
    holder: Any = simple_registry.singleton.find(name).effect
    effect = holder.effect
    holder.register(None)
    try:
        yield
    finally:
        holder.register(effect)


def each_new_node(visit: Callable[[torch.fx.Node], None]) -> None:
    """Calls `visit` with every node that the running trace adds from now on."""
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
    """The number that autograd gave to the operator whose forward is running."""
    return int(torch.autograd._get_sequence_nr()) - 1


def current_sequence() -> int | None:
    """The number of the operator whose backward is running, or None outside a backward."""
    node = torch._C._current_autograd_node()
    return None if node is None else int(node._sequence_nr())


def is_running_again() -> bool:
    """Whether a checkpoint is running its forward anew, inside a backward that is none of a custom Function's own."""
    node: Any = torch._C._current_autograd_node()
    if node is None:
        return False
    function = getattr(node, "_forward_cls", None)
    return function is None or function is torch.utils.checkpoint.CheckpointFunction


Around = Callable[[Any, tuple[Any, ...], Callable[[], Any]], Any]


@contextlib.contextmanager
def function_calls(forward: Around, backward: Around) -> Iterator[None]:
    """While open, every custom Function's forward and backward runs through these.

    `forward(cls, args, run)` and `backward(ctx, cotangents, run)` call `run()` and return what it gave.
    """
    single_level: Any = autograd_function._SingleLevelFunction
    backward_c: Any = autograd_function.BackwardCFunction
    forward_before = vars(single_level).get("apply")  # another hook, where one is open
    backward_before = backward_c.apply

    def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
        inner = forward_before.__get__(None, cls) if forward_before else super(single_level, cls).apply
        return forward(cls, args, lambda: inner(*args, **kwargs))

    def apply_backward(self: Any, *cotangents: Any) -> Any:
        return backward(self, cotangents, lambda: backward_before(self, *cotangents))

    single_level.apply = classmethod(apply)
    backward_c.apply = apply_backward
    try:
        yield
    finally:
        if forward_before is None:
            del single_level.apply
        else:
            single_level.apply = forward_before
        backward_c.apply = backward_before


def default_opset() -> int:
    """The opset that `torch.onnx.export` writes when none is asked for."""
    from torch.onnx import _constants

    return int(_constants.ONNX_DEFAULT_OPSET)


def lowerings(opset_version: int) -> Any:
    """A new copy of the exporter's registry of lowerings at one opset."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    with quiet():
        return ONNXRegistry.from_torchlib(opset_version)


def decompositions(registry: Any, left_out: Iterable[Any]) -> dict[Any, Any]:
    """Decompositions of the operators that the registry has no lowering for, and of those in `left_out`."""
    from torch.onnx._internal.exporter import _decomp

    with quiet():
        implemented = set(_decomp.get_onnx_implemented_overloads(registry))
        return dict(_decomp.create_onnx_friendly_decomposition_table(implemented - set(left_out)))


def has_lowering(node: torch.fx.Node, registry: Any) -> bool:
    """Whether the translation finds a lowering for a node."""
    from torch.onnx._internal.exporter import _dispatching

    return _dispatching.dispatch(node, registry)[0] is not None


def promote_types(graph_module: torch.fx.GraphModule) -> None:
    """Makes implicit type promotion explicit, in place, and drops assertions."""
    from torch.onnx._internal.fx.passes import type_promotion

    class Promotion(type_promotion._TypePromotionInterpreter):
        """torch's pass runs every node of the graph once more; here only those run that change."""

        def run_node(self, node: torch.fx.Node) -> Any:
            if node.op != "call_function" or "val" not in node.meta:
                return torch.fx.Interpreter.run_node(self, node)
            rule = type_promotion.get_type_promotion_rule(node, self.type_promotion_table)
            if rule is not None and not _is_of_one_type(node):
                with self._set_current_node(node):
                    self._maybe_promote_node(node, rule)
            return node.meta["val"]

    graph = graph_module.graph
    values = [node.meta["val"] for node in graph.nodes if node.op == "placeholder"]
    mode = detect_fake_mode(values)
    with quiet(), mode or contextlib.nullcontext(), enable_python_dispatcher(), preserve_node_meta():
        Promotion(graph_module, type_promotion.TypePromotionTable()).run(*values)
    for node in reversed(list(graph.nodes)):
        if node.target in _ASSERTIONS:
            graph.erase_node(node)


def _is_of_one_type(node: torch.fx.Node) -> bool:
    """Whether a node computes in the one floating type of all that it reads."""
    result = node.meta["val"]
    if not isinstance(result, torch.Tensor) or result.dtype not in (torch.float32, torch.float64):
        return False
    read = [argument.meta.get("val") for argument in node.all_input_nodes]
    numbers = [argument for argument in (*node.args, *node.kwargs.values()) if not isinstance(argument, torch.fx.Node)]
    return not numbers and all(isinstance(value, torch.Tensor) and value.dtype == result.dtype for value in read)


def translate(graph_module: torch.fx.GraphModule, registry: Any) -> Any:
    """The ONNX model (`onnx_ir.Model`) of a functional graph whose placeholders are all user inputs."""
    from torch.onnx._internal.exporter._core import _exported_program_to_onnx_program

    with quiet(), _without_collection():
        return _exported_program_to_onnx_program(_Exported(graph_module), registry=registry).model  # type: ignore[arg-type]


class _Exported:
    """What the translation reads of a `torch.export.ExportedProgram`; the real one refuses operators it does not
    know, and the graphs here hold two of ours."""

    def __init__(self, graph_module: torch.fx.GraphModule) -> None:
        from torch.export.graph_signature import (
            ExportGraphSignature,
            InputKind,
            InputSpec,
            OutputKind,
            OutputSpec,
            TensorArgument,
        )

        nodes = list(graph_module.graph.nodes)
        (results,) = nodes[-1].args
        inputs = [node for node in nodes if node.op == "placeholder"]
        self.graph_module = graph_module
        self.graph_signature = ExportGraphSignature(
            [InputSpec(InputKind.USER_INPUT, TensorArgument(node.name), None) for node in inputs],
            [OutputSpec(OutputKind.USER_OUTPUT, TensorArgument(node.name), None) for node in results],
        )
        self.range_constraints: dict[Any, Any] = {}
        self.constants: dict[str, Any] = {}

    def named_parameters(self) -> Iterator[Any]:
        """None: parameters are inputs here, and become initializers afterwards."""
        return iter(())

    def named_buffers(self) -> Iterator[Any]:
        """None: as for parameters."""
        return iter(())
