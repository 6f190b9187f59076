"""Regions: assigns the nodes of a trace to calls of custom Functions, forward or backward."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from gradport.compat.torch.checkpoints import Recomputation, running_recomputation
from gradport.compat.torch.functions import (
    FunctionCall,
    Hooks,
    function_calls,
    function_of,
    has_setup_context,
    tensors_marked_dirty,
    tensors_marked_non_differentiable,
    tensors_to_save,
)
from gradport.compat.torch.library import fill_defaults
from gradport.compat.torch.tracing import current_forward_sequence, current_sequence, observe_new_nodes
from gradport.eager.activations import track_modules
from gradport.eager.control_flow import Lifting, in_body
from gradport.eager.custom_operators import stand_in_of_function
from gradport.eager.references import ReferenceHooks
from gradport.operators.markers import mark
from gradport.operators.replacing import Replacing
from gradport.operators.table import OwnBackward
from gradport.subject.ports import Phase
from gradport.subject.user_code import Place, here
from gradport.tracing.indexing import IndexByTensor

__all__ = ["Region", "Regions", "is_backward", "module_of", "place_of", "recomputation_of", "region_of"]

_REGION = "gradport_region"
_PLACE = "gradport_place"
_MODULE = "gradport_module"
_BACKWARD = "gradport_backward"
_RECOMPUTED = "gradport_recomputed"


@dataclasses.dataclass(eq=False)
class Region:
    """One phase of one call of a custom Function.

    Attributes:
        key: number of this region in its trace.
        function: the Function class.
        phase: forward or backward.
        parent: key of the enclosing Region, or None.
        forward: for a backward, the key of its forward; for a forward, its own key; None if torch hides it.
        entered: the arguments: for each position, the index among the marked tensors; None if not a tensor.
        left: the results, likewise.
        saved: for a forward, the arguments of `save_for_backward`, likewise.
        statics: for a forward, the non-tensor arguments by position.
        place: the source line of the call.
    """

    key: int
    function: type
    phase: Phase
    parent: int | None
    forward: int | None
    entered: tuple[int | None, ...]
    statics: dict[int, Any]
    place: Place | None
    left: tuple[int | None, ...] = ()
    saved: tuple[int | None, ...] = ()


class Regions(Hooks):
    """Observes a trace: opens a Region for every call, and records Region, module and source line of every new node.

    Args:
        modules: the subject's modules, by path.

    Attributes:
        by_key: the Regions by key.
        recomputed: for each recomputed checkpoint, by number, the key of the Region around it.
    """

    def __init__(self, modules: Mapping[str, torch.nn.Module]) -> None:
        self.by_key: dict[int, Region] = {}
        self._stack: list[Region] = []
        self._tracing = False
        self.recomputed: dict[int, int | None] = {}
        self._recomputations: dict[Recomputation, int] = {}
        self._modules = modules
        self._forward_places: dict[int, Place] = {}
        self._forward_modules: dict[int, str] = {}

    @contextlib.contextmanager
    def observe(self) -> Iterator[None]:
        """Observes the trace while open; to be opened inside the traced function."""
        with track_modules(self._modules) as open_modules:
            observe_new_nodes(lambda node: self._note(node, open_modules))
            self._tracing = True
            try:
                with function_calls(ReferenceHooks(always=True)), function_calls(self):
                    yield
            finally:
                self._tracing = False  # nodes of later passes have no source line

    @property
    def innermost(self) -> Region | None:
        """The innermost open Region; after an error, the Region of the error."""
        return self._stack[-1] if self._stack else None

    def _note(self, node: torch.fx.Node, open_modules: Sequence[str]) -> None:
        if not self._tracing:
            return
        recomputed = self._recomputation()
        if recomputed is not None:
            node.meta[_RECOMPUTED] = recomputed
        if self._stack:
            node.meta[_REGION] = self._stack[-1].key
        place, module = here(), open_modules[-1] if open_modules else None
        sequence = current_sequence()
        if sequence is None:
            if place is not None:
                self._forward_places.setdefault(current_forward_sequence(), place)
            if module is not None:
                self._forward_modules.setdefault(current_forward_sequence(), module)
        else:
            node.meta[_BACKWARD] = True
            place = place or self._forward_places.get(sequence)
            module = module or self._forward_modules.get(sequence)
        if place is not None:
            node.meta[_PLACE] = place
        if module is not None:
            node.meta[_MODULE] = module

    def forward(self, call: FunctionCall, run: Callable[[], Any]) -> Any:
        """Opens a Region around a Function's forward."""
        if _is_internal(call.function):
            return run()
        if in_body():
            call.context._gradport_in_body = True  # inside the body of torch.cond, scan or while_loop
            return run()
        self._recomputation()  # before the Region opens: the checkpoint is around it
        operator = stand_in_of_function(call.function)
        args = call.args
        if operator is not None:  # torch appends its own argument
            args = fill_defaults(operator.operator, args[:-1], {})
        region = self._open_forward(operator or call.function, args)
        results = _alias_arguments(run(), call)
        self._close(region, results)
        call.context._gradport_region = region.key
        if not has_setup_context(call.function):
            self._mark_saved(region, call.context)
        return results

    def operator(self, stand_in: Any, args: tuple[Any, ...], run: Callable[[], Any]) -> Any:
        """Opens a Region around an operator of `torch.library`, unless torch's wrapper Function has opened it."""
        if in_body() or (self._stack and self._stack[-1].function is stand_in):
            return _run_in_modes(run)
        region = self._open_forward(stand_in, args)
        results = _run_in_modes(run)
        self._close(region, tuple(results) if isinstance(results, list) else results)
        return results

    def _open_forward(self, function: type, args: tuple[Any, ...]) -> Region:
        key = len(self.by_key)
        tensors, entered = _tensors_of(args)
        statics = {index: value for index, value in enumerate(args) if not isinstance(value, torch.Tensor)}
        return self._open(Region(key, function, Phase.FORWARD, self._parent(), key, entered, statics, here()), tensors)

    def setup(self, call: FunctionCall, run: Callable[[], None]) -> None:
        """Marks the tensors that a Function with a `setup_context` saves."""
        run()
        region = self._region_of(call.context)
        if region is not None:
            self._mark_saved(region, call.context)

    def _region_of(self, context: Any) -> Region | None:
        """The forward's Region of a ctx; None if the forward ran in the body of an operator, or the Function is torch's
        or gradport's."""
        return self.by_key.get(vars(context).get("_gradport_region"))  # type: ignore[arg-type]

    def _mark_saved(self, region: Region, context: Any) -> None:
        """Marks the arguments of `save_for_backward`, in order."""
        tensors, region.saved = _tensors_of(tensors_to_save(context))
        if tensors:
            _mark(tensors, region.key, "save")

    def backward(self, context: Any, cotangents: tuple[Any, ...], run: Callable[[], Any]) -> Any:
        """Opens a Region around a Function's backward."""
        function = function_of(context)
        if _is_internal(function) or "_gradport_in_body" in vars(context):
            return run()
        tensors, entered = _tensors_of(cotangents)
        forward = self._region_of(context)
        key = None if forward is None else forward.key
        operator = stand_in_of_function(function)
        region = Region(
            len(self.by_key), operator or function, Phase.BACKWARD, self._parent(), key, entered, {}, here()
        )
        self._open(region, tensors)
        results = _alias(_run_in_modes(run))
        self._close(region, results if operator is None else results[:-1])
        return results

    def _recomputation(self) -> int | None:
        """The number of the checkpoint that is recomputed now, or None."""
        running = running_recomputation()
        if running is None:
            return None
        if running not in self._recomputations:
            number = self._recomputations[running] = len(self._recomputations)
            self.recomputed[number] = self._parent()
        return self._recomputations[running]

    def _parent(self) -> int | None:
        return self._stack[-1].key if self._stack else None

    def _open(self, region: Region, tensors: list[torch.Tensor]) -> Region:
        self.by_key[region.key] = region
        _mark(tensors, region.key, "enter")
        self._stack.append(region)
        return region

    def _close(self, region: Region, results: Any) -> None:
        popped = self._stack.pop()
        assert popped is region
        tensors, region.left = _tensors_of(results if isinstance(results, tuple) else (results,))
        _mark(tensors, region.key, "leave")


def _is_internal(function: type) -> bool:
    """Whether a Function belongs to torch (checkpoints, operators with a body) or to a row of the operator table."""
    return issubclass(function, OwnBackward) or function.__module__.startswith(
        ("torch._higher_order_ops", "torch.utils.checkpoint")
    )


def region_of(node: torch.fx.Node) -> int | None:
    """Key of the innermost Region that the node belongs to."""
    return node.meta.get(_REGION)


def place_of(node: torch.fx.Node) -> Place | None:
    """The user's line of the node; for a backward operator, the line of its forward."""
    return node.meta.get(_PLACE)


def module_of(node: torch.fx.Node) -> str | None:
    """Path of the module whose call created the node; for a backward operator, its forward's module."""
    return node.meta.get(_MODULE)


def is_backward(node: torch.fx.Node) -> bool:
    """Whether the node was created while a backward ran."""
    return _BACKWARD in node.meta


def recomputation_of(node: torch.fx.Node) -> int | None:
    """The number of the checkpoint whose recomputation created the node, or None."""
    return node.meta.get(_RECOMPUTED)


def _tensors_of(values: tuple[Any, ...]) -> tuple[list[torch.Tensor], tuple[int | None, ...]]:
    tensors: list[torch.Tensor] = []
    positions: list[int | None] = []
    for value in values:
        if isinstance(value, torch.Tensor):
            positions.append(len(tensors))
            tensors.append(value)
        else:
            positions.append(None)
    return tensors, tuple(positions)


def _alias_arguments(results: Any, call: FunctionCall) -> Any:
    """The results of a forward; an argument that it returns unchanged is replaced by an alias inside the Region."""
    # torch recognizes marked tensors by identity
    marked = (*tensors_marked_dirty(call.context), *tensors_marked_non_differentiable(call.context))
    arguments = {id(value) for value in call.args} - {id(tensor) for tensor in marked}

    def own(result: Any) -> Any:
        return _alias(result) if id(result) in arguments else result

    return tuple(map(own, results)) if isinstance(results, tuple) else own(results)


def _alias(results: Any) -> Any:
    """Aliases of a backward's results: a straight-through backward returns its own argument."""
    if isinstance(results, tuple):
        return tuple(map(_alias, results))
    return torch.ops.aten.alias.default(results) if isinstance(results, torch.Tensor) else results


def _run_in_modes(run: Callable[[], Any]) -> Any:
    """Runs user code under gradport's modes, which torch disables there."""
    with Lifting(), Replacing(), IndexByTensor():
        return run()


def _mark(tensors: list[torch.Tensor], key: int, side: str) -> None:
    with torch.no_grad():
        mark(tensors or [torch.zeros(())], key, side)
