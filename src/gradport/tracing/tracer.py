"""Trace: the ATen-level FX graph of a Subject, only forward or forward and backward, with marked Regions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.fx

from gradport.compat.quiet import quiet
from gradport.compat.torch.promotion import promote_types
from gradport.compat.torch.sizes import ShapeAssumptions, require_equal
from gradport.compat.torch.tracing import fake_mode, fake_tensor, trace_function
from gradport.eager.control_flow import bodies
from gradport.eager.custom_operators import CustomOperators, ReferencedOperators
from gradport.eager.dimensions import Dimension, Dimensions, by_name
from gradport.eager.inputs import sizes_of
from gradport.eager.joint import CallResults, Joint, Slot
from gradport.eager.randomness import Expected, Randomness, Supplied
from gradport.eager.references import ReferenceHooks, has_reference
from gradport.eager.run import ones, run_eager
from gradport.errors import Error, ExportError
from gradport.operators import markers
from gradport.operators.normalization import average_statistics
from gradport.operators.replacing import Replacing
from gradport.operators.table import operators_with_rows
from gradport.subject.ports import GraphSignature, Port, Role, input_port
from gradport.subject.user_code import here
from gradport.tracing.complex_numbers import write_complex_as_pairs
from gradport.tracing.constants import KnownConstants
from gradport.tracing.guards import SizeRefusal, SpecialSize, require_free_dimensions
from gradport.tracing.identities import drop_identities, make_operands_distinct, make_results_distinct
from gradport.tracing.indexing import IndexByTensor
from gradport.tracing.python_numbers import symbolic_numbers
from gradport.tracing.refusals import refuse_random_numbers, trace_refusal
from gradport.tracing.regions import Region, Regions
from gradport.tracing.sizes import keep_sizes_local, write_strides_as_sizes

__all__ = ["Constant", "Placeholder", "Trace", "trace_joint"]


@dataclasses.dataclass(frozen=True)
class Placeholder:
    """One input of the traced graph.

    Attributes:
        node: the name of its node.
        slot: the tensor it represents; a cotangent has the name of its output.
        port: the model input that it becomes; None: an initializer.
    """

    node: str
    slot: Slot
    port: Port | None


@dataclasses.dataclass(frozen=True)
class Constant:
    """A tensor that the subject's code created or read, lifted out of the graph."""

    node: str
    tensor: torch.Tensor


@dataclasses.dataclass
class Trace:
    """A traced Subject.

    Attributes:
        joint: the traced function.
        graph_module: the graph; its nodes have Regions and source lines, borders of Regions are `gradport::mark` nodes.
        placeholders: the graph's inputs in order, without constants.
        constants: lifted tensors; they are placeholders after the others.
        signature: inputs and outputs of the model, in order.
        regions: the Regions by key.
        symbols: the dynamic dimensions by torch's symbol.
        special_sizes: sizes where a condition of the trace does not hold; the proof must test them.
        missing_gradients: slots in `wrt` without a gradient from the backward.
        dropped_updates: buffers that the subject changes.
        distributions: the distribution of each random input, by name.
        recomputed: for each recomputed checkpoint, by number, the key of the Region around it.
        references: each Function whose slow reference was traced, and whether the Function itself runs here.
    """

    joint: Joint
    graph_module: torch.fx.GraphModule
    placeholders: tuple[Placeholder, ...]
    constants: tuple[Constant, ...]
    signature: GraphSignature
    regions: dict[int, Region]
    symbols: dict[str, Dimension]
    special_sizes: tuple[SpecialSize, ...]
    missing_gradients: tuple[str, ...]
    dropped_updates: tuple[str, ...]
    distributions: dict[str, str]
    recomputed: dict[int, int | None]
    references: dict[str, str]

    def changes_state(self) -> bool:
        """Whether the graph has outputs that are new state: it is a training step, or a part of one."""
        return any(port.role is Role.NEW_STATE for port in self.signature.outputs)


def trace_joint(
    joint: Joint, dimensions: Dimensions, decompositions: Mapping[Any, Any], *, expected: bool = False
) -> Trace:
    """Traces a Subject once, forward and (if gradients are requested) backward.

    Args:
        joint: the function to trace.
        dimensions: its dynamic dimensions.
        decompositions: by operator.
        expected: replace random numbers by their means; otherwise they become inputs.

    Raises:
        ExportError: a graph cannot express the subject; the message names the construct and its line.
        TargetError: the subject rejects its own example.
    """
    _require_dense(joint, joint.examples())
    refusals = []
    for sizes in _trace_sizes(joint, dimensions):
        try:
            return _trace(joint, dimensions, sizes, decompositions, expected=expected)
        except (SizeRefusal, _RefusedElsewhere) as refusal:
            refusals.append(refusal)
    first = next(refusal for refusal in refusals if isinstance(refusal, SizeRefusal))
    raise ExportError(str(first)) from first


class _RefusedElsewhere(Exception):
    """The trace fails at sizes other than the example's; a trace at the example's sizes may work."""


def _trace_sizes(joint: Joint, dimensions: Dimensions) -> Iterator[dict[str, int]]:
    """The sizes of dynamic dimensions to try until a trace leaves all of them free. First the example's sizes with 0, 1
    and 2 replaced, since torch treats these (and slices of them) as constants; then the example's; then larger ones."""
    own = sizes_of(joint, dimensions)
    limits = by_name(dimensions)

    def admit(sizes: Mapping[str, int]) -> dict[str, int]:
        return {name: size if limits[name].admits(size) else own[name] for name, size in sizes.items()}

    plain = admit({name: size if size > 2 else 5 + at for at, (name, size) in enumerate(own.items())})
    tried = []
    for sizes in (plain, own, admit({name: 2 * size + 7 for name, size in own.items()})):
        if sizes not in tried:
            tried.append(sizes)
            yield sizes


def _trace(
    joint: Joint,
    dimensions: Dimensions,
    sizes: Mapping[str, int],
    decompositions: Mapping[Any, Any],
    *,
    expected: bool,
) -> Trace:
    """Traces with the given sizes of dynamic dimensions.

    Raises:
        SizeRefusal: a dynamic dimension is not free after the trace.
        _RefusedElsewhere: the trace fails at sizes other than the example's.
        ExportError, TargetError: as `trace`.
    """
    examples = joint.examples()
    mode = fake_mode()
    fakes, symbolic = _fakes(mode, examples, dimensions, sizes)
    assumptions = ShapeAssumptions(mode, here)
    tracing = _Tracing(joint, list(examples), Expected if expected else _random_inputs)
    try:
        with quiet():
            graph_module = trace_function(tracing, fakes, mode, decompositions)
    except Error:
        raise
    except Exception as error:
        if sizes != sizes_of(joint, dimensions):
            raise _RefusedElsewhere from error
        raise trace_refusal(joint, tracing.regions, error) from error
    refuse_random_numbers(joint, graph_module, tracing.regions)
    write_strides_as_sizes(graph_module)
    write_complex_as_pairs(graph_module, mode, decompositions, joint.subject.name)
    constants = _lift_constants(graph_module)
    placeholders = _inputs(graph_module, joint, list(examples), {constant.node for constant in constants})
    symbols, special = require_free_dimensions(joint, dimensions, assumptions, symbolic)
    for body in bodies(graph_module):
        promote_types(body)  # before dropping copies: promotion runs nodes, and views depend on strides
        drop_identities(body)
        make_operands_distinct(body)
        if body is not graph_module:
            make_results_distinct(body)
            _keep_constants(body)
    keep_sizes_local(graph_module, tracing.regions.by_key)
    assert tracing.call_results is not None
    return Trace(
        joint=joint,
        graph_module=graph_module,
        placeholders=placeholders,
        constants=constants,
        signature=_signature(placeholders, tracing.outputs),
        regions=tracing.regions.by_key,
        symbols=symbols,
        special_sizes=special,
        missing_gradients=tracing.missing,
        dropped_updates=tracing.call_results.updates,
        distributions=tracing.call_results.distributions,
        recomputed=tracing.regions.recomputed,
        references=_references(joint, tracing.regions.by_key),
    )


def _references(joint: Joint, regions: Mapping[int, Region]) -> dict[str, str]:
    """Where the Function itself runs here, the proof holds the reference against it."""
    functions = dict.fromkeys(region.function for region in regions.values())
    replaced = [function for function in functions if has_reference(function)]
    if not replaced:
        return {}
    hooks, operators = ReferenceHooks(always=False), ReferencedOperators()
    run_eager(joint, joint.examples(), ones, hooks=hooks, operators=operators)
    return {
        f"{function.__module__}.{function.__qualname__}": "does not run here"
        if function in hooks.replaced | operators.replaced
        else "runs here"
        for function in replaced
    }


class _Tracing:
    """The traced function: flat tensors in, flat tensors out; keeps the results of the call as attributes."""

    def __init__(self, joint: Joint, slots: list[Slot], random: Callable[[], Randomness]) -> None:
        self.joint = joint
        self._traced = joint.for_trace()
        self.random = random
        self.slots = slots
        self.regions = Regions(joint.state.modules())
        self.call_results: CallResults | None = None
        self.outputs: tuple[Port, ...] = ()
        self.missing: tuple[str, ...] = ()
        self.__name__ = "joint"

    def __call__(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with (
            self.regions.observe(),
            KnownConstants(),
            average_statistics(),
            Replacing(),
            IndexByTensor(),
            symbolic_numbers(),
            CustomOperators(self.regions, operators_with_rows()),
        ):
            call_results = self._traced(dict(zip(self.slots, tensors, strict=True)), _cotangent, self.random)
        self.call_results = call_results
        results = self.joint.list_outputs(call_results)
        self.outputs = tuple(results)
        self.missing = tuple(slot.name for slot, gradient in call_results.gradients.items() if gradient is None)
        return tuple(tensor.detach() if tensor.requires_grad else tensor for tensor in results.values())


def _cotangent(name: str, output: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return markers.cotangent(output, name)


def _require_dense(joint: Joint, examples: Mapping[Slot, torch.Tensor]) -> None:
    for slot, tensor in examples.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested:
            layout = str(tensor.layout).removeprefix("torch.")
            raise ExportError(
                f"The {slot.role} {slot.name!r} of {joint.subject.name} is a sparse, quantized or nested tensor "
                f"({layout}), and ONNX has only dense tensors: pass a dense tensor."
            )


def _random_inputs() -> Randomness:
    return Supplied(lambda name, distribution, shape, dtype: _draw(name, shape, dtype))


def _draw(name: str, shape: Sequence[Any], dtype: torch.dtype) -> torch.Tensor:
    with torch.no_grad():
        return markers.random(list(shape), name, dtype)


def _fakes(
    mode: Any, examples: Mapping[Slot, torch.Tensor], dimensions: Dimensions, sizes: Mapping[str, int]
) -> tuple[list[torch.Tensor], dict[Dimension, list[Any]]]:
    """A fake tensor for every slot at the given sizes, and the symbolic sizes of each dynamic dimension. Dimensions of
    equal name get equal sizes."""
    fakes = []
    symbolic: dict[Dimension, list[Any]] = {}
    for slot, tensor in examples.items():
        axes = dimensions.get(slot.name, {}) if slot.role in (Role.ARGUMENT, Role.TARGET) else {}
        fake = fake_tensor(mode, _resize(tensor, axes, sizes), tuple(axes))
        for axis, dimension in axes.items():
            symbolic.setdefault(dimension, []).append(fake.shape[axis])
        fakes.append(fake)
    for first, *others in symbolic.values():
        for other in others:
            require_equal(first, other)
    return fakes, symbolic


def _resize(tensor: torch.Tensor, axes: Mapping[int, Dimension], sizes: Mapping[str, int]) -> torch.Tensor:
    """The example if it has the given sizes, else an uninitialized tensor of these sizes; values are not read."""
    shape = [sizes[axes[at].name] if at in axes else size for at, size in enumerate(tensor.shape)]
    if shape == list(tensor.shape):
        return tensor
    return torch.empty(shape, dtype=tensor.dtype, device=tensor.device)


def _lift_constants(graph_module: torch.fx.GraphModule) -> tuple[Constant, ...]:
    """Turns every `get_attr` node into a placeholder and returns the tensors."""
    graph = graph_module.graph
    constants: dict[str, Constant] = {}
    lifted: dict[str, torch.fx.Node] = {}
    last = (
        [node for node in graph.nodes if node.op == "placeholder"][-1]
        if any(node.op == "placeholder" for node in graph.nodes)
        else None
    )
    for node in list(graph.nodes):
        if node.op != "get_attr":
            continue
        if node.target not in lifted:
            tensor = getattr(graph_module, node.target)
            if not isinstance(tensor, torch.Tensor):
                continue
            place = graph.inserting_after(last) if last is not None else graph.inserting_before(next(iter(graph.nodes)))
            with place:
                placeholder = graph.placeholder(f"constant_{len(lifted)}")
            placeholder.meta["val"] = node.meta.get("val", tensor)
            lifted[node.target] = last = placeholder
            constants[node.target] = Constant(placeholder.name, tensor.detach())
        node.replace_all_uses_with(lifted[node.target])
        graph.erase_node(node)
    return tuple(constants.values())


def _keep_constants(body: torch.fx.GraphModule) -> None:
    """Gives the constants inside a branch or a loop their values: the exporter writes what the trace knows of a node,
    and that is a fake tensor."""
    for node in body.graph.nodes:
        tensor = getattr(body, node.target) if node.op == "get_attr" else None
        if isinstance(tensor, torch.Tensor):
            node.meta["val"] = tensor


def _signature(placeholders: Sequence[Placeholder], outputs: Sequence[Port]) -> GraphSignature:
    inputs = [placeholder.port for placeholder in placeholders if placeholder.port is not None]
    return GraphSignature.of(inputs, outputs)


def _inputs(
    graph_module: torch.fx.GraphModule, joint: Joint, slots: list[Slot], constants: set[str]
) -> tuple[Placeholder, ...]:
    """Names the placeholders; markers of cotangents and random numbers become placeholders too."""
    graph = graph_module.graph
    nodes = [node for node in graph.nodes if node.op == "placeholder" and node.name not in constants]
    placeholders = [
        Placeholder(node.name, slot, input_port(slot, joint.moving)) for node, slot in zip(nodes, slots, strict=True)
    ]
    for node in list(graph.nodes):
        role = {markers.cotangent: Role.COTANGENT, markers.random: Role.RANDOM}.get(node.target)
        if role is None:
            continue
        with graph.inserting_before(next(iter(graph.nodes))):
            placeholder = graph.placeholder(f"{role}_{len(placeholders)}")
        placeholder.meta["val"] = node.meta["val"]
        node.replace_all_uses_with(placeholder)
        port = Port.own(role, node.args[1])
        placeholders.append(Placeholder(placeholder.name, port.slot, port))
        graph.erase_node(node)
    return tuple(placeholders)
