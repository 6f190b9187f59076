"""Records the custom Functions of one call: arguments, results, saved tensors, and changes in place."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch

from gradport.checking.probes.calls import ForwardCall, call, cotangents_for, gradients, is_own
from gradport.checking.probes.trial import Trial
from gradport.compat.torch.functions import FunctionCall, Hooks, function_calls, has_setup_context, tensors_marked_dirty
from gradport.eager.joint import Slot
from gradport.subject.leaves import leaves

__all__ = ["Watched", "watch_call"]


@dataclasses.dataclass
class Watched:
    """One call of one custom Function, forward and backward.

    Attributes:
        name: the name of the Function.
        args, results: of the forward.
        changed_inputs: positions of tensor arguments whose values the forward changed without `mark_dirty`.
        views: positions of results that share memory with an argument and are not that argument.
        kept: tensors stored on ctx without `save_for_backward`, by attribute.
        saved: the arguments of `save_for_backward`.
        cotangents: of the backward.
        gradients: the values that the backward returned.
        changed_cotangents: positions of cotangents that the backward changed.
        changed_saved: positions of saved tensors that the backward changed.
        changed_kept: names of kept tensors that the backward changed.
    """

    name: str
    args: tuple[Any, ...]
    results: tuple[Any, ...] = ()
    changed_inputs: tuple[int, ...] = ()
    views: tuple[int, ...] = ()
    kept: dict[str, torch.Tensor] = dataclasses.field(default_factory=dict)
    saved: tuple[Any, ...] = ()
    cotangents: tuple[Any, ...] = ()
    gradients: tuple[Any, ...] = ()
    changed_cotangents: tuple[int, ...] = ()
    changed_saved: tuple[int, ...] = ()
    changed_kept: tuple[str, ...] = ()


def watch_call(trial: Trial, tensors: Mapping[Slot, torch.Tensor]) -> tuple[ForwardCall, list[Watched]]:
    """Runs forward and backward once; returns the call and its custom Functions in order.

    Raises:
        TargetError: the subject's code raised.
    """
    watcher = _Watcher()
    with function_calls(watcher):
        forward_call = call(trial, tensors)
        gradients(trial, forward_call, cotangents_for(forward_call.outputs, trial.seed), retain_graph=True)
    return forward_call, watcher.log


class _Watcher(Hooks):
    """Fills `log` with a Watched for each call of a custom Function."""

    def __init__(self) -> None:
        self.log: list[Watched] = []
        self._by_context: dict[int, Watched] = {}

    def forward(self, call: FunctionCall, run: Callable[[], Any]) -> Any:
        if is_own(call.function):
            return run()
        before = [_copy(value) for value in call.args]
        results = run()
        one = Watched(call.function.__name__, call.args, results if isinstance(results, tuple) else (results,))
        one.changed_inputs = tuple(at for at, value in enumerate(call.args) if _find_changes(before[at], value))
        self.log.append(one)
        self._by_context[id(call.context)] = one
        if not has_setup_context(call.function):
            _note_marks(one, call)
        return results

    def setup(self, call: FunctionCall, run: Callable[[], None]) -> None:
        run()
        if id(call.context) in self._by_context:
            _note_marks(self._by_context[id(call.context)], call)

    def backward(self, context: Any, cotangents: tuple[Any, ...], run: Callable[[], Any]) -> Any:
        one = self._by_context.get(id(context))
        if one is None:
            return run()
        one.kept, one.saved, one.cotangents = _tensors_on_ctx(context), tuple(context.saved_tensors), cotangents
        before = [_copy(value) for value in cotangents]
        saved = [_copy(value) for value in one.saved]
        kept = {name: _copy(value) for name, value in one.kept.items()}
        results = run()
        one.gradients = results if isinstance(results, tuple) else (results,)
        one.changed_cotangents = tuple(at for at, value in enumerate(cotangents) if _find_changes(before[at], value))
        one.changed_saved = tuple(at for at, value in enumerate(one.saved) if _find_changes(saved[at], value))
        one.changed_kept = tuple(name for name, value in one.kept.items() if _find_changes(kept[name], value))
        return results


def _note_marks(one: Watched, call: FunctionCall) -> None:
    """Removes arguments that were marked dirty: they may change, and a result that is one of them is not a view."""
    dirty = {id(tensor) for tensor in tensors_marked_dirty(call.context)}
    one.changed_inputs = tuple(at for at in one.changed_inputs if id(one.args[at]) not in dirty)
    one.views = tuple(
        at for at, result in enumerate(one.results) if id(result) not in dirty and _is_view_of(result, one.args)
    )


def _tensors_on_ctx(context: Any) -> dict[str, torch.Tensor]:
    """The tensors that a forward stored in attributes of its ctx."""
    tensors: dict[str, torch.Tensor] = {}
    for name, value in vars(context).items():
        if name.startswith("_") or name in ("saved_tensors", "to_save"):
            continue
        for path, leaf in leaves(value):
            if isinstance(leaf, torch.Tensor):
                tensors[".".join(["ctx", name, *map(str, path)])] = leaf
    return tensors


def _copy(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, torch.Tensor) else value


def _find_changes(before: Any, value: Any) -> bool:
    if not isinstance(value, torch.Tensor) or before.shape != value.shape:
        return isinstance(value, torch.Tensor)
    now = value.detach()
    return not bool(((now == before) | ((now != now) & (before != before))).all())


def _is_view_of(result: Any, args: tuple[Any, ...]) -> bool:
    if not isinstance(result, torch.Tensor):
        return False
    tensors = [value for value in args if isinstance(value, torch.Tensor)]
    if not result.numel():
        return False
    storage = result.untyped_storage().data_ptr()
    return any(value.untyped_storage().data_ptr() == storage for value in tensors if value.numel())
