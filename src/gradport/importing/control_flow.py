"""If, Loop and Scan as Python's and torch's control flow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from gradport.errors import ExportError
from gradport.importing.plan import Step, Subgraph
from gradport.importing.sizes import Sizes, as_tensor, numbers_of

__all__ = ["run_if", "run_loop", "run_scan"]

Run = Callable[[Subgraph, dict[str, Any]], list[Any]]


def run_if(run: Run, step: Step, condition: Any, values: dict[str, Any]) -> list[Any]:
    """A condition that is known takes one branch; otherwise torch.cond, whose branches are closed over their values."""
    branches = step.attributes["then_branch"], step.attributes["else_branch"]
    if isinstance(condition, Sizes):
        return run(branches[0 if condition.number() else 1], dict(values))
    condition = condition.reshape(())
    if type(condition) in (torch.Tensor, torch.nn.Parameter):
        return run(branches[0 if bool(condition) else 1], dict(values))

    def branch(graph: Subgraph) -> Callable[[], tuple[torch.Tensor, ...]]:
        return lambda: tuple(as_tensor(one).clone() for one in run(graph, dict(values)))

    return list(torch.cond(condition, branch(branches[0]), branch(branches[1]), ()))


def run_loop(run: Run, step: Step, inputs: Sequence[Any], values: dict[str, Any]) -> list[Any]:
    """A loop of a known length without a condition of its own is unrolled; with real tensors it runs as it stands."""
    body: Subgraph = step.attributes["body"]
    limit, condition, *carried = inputs
    count = None if limit is None else (limit if isinstance(limit, Sizes) else numbers_of(limit)).number()
    goes_on = True if condition is None else bool(_number(condition))
    rows: list[list[Any]] = [[] for _ in body.outputs[1 + len(carried) :]]
    time = 0
    while goes_on and (count is None or time < count):
        state = dict(zip(body.inputs, (Sizes.of(time), Sizes.of(True, torch.bool), *carried), strict=True))
        again, *results = run(body, {**values, **state})
        carried = results[: len(carried)]
        for row, one in zip(rows, results[len(carried) :], strict=True):
            row.append(as_tensor(one))
        goes_on = bool(_number(again))
        time += 1
    if any(not row for row in rows):
        raise ExportError(f"The Loop {step.name!r} makes no step, so the shape of its rows is unknown.")
    return [*carried, *(torch.stack(row) for row in rows)]


def _number(value: Any) -> Any:
    return value.number() if isinstance(value, Sizes) else value


def run_scan(run: Run, step: Step, inputs: Sequence[Any], values: dict[str, Any]) -> list[Any]:
    """torch's scan along the first axis; other axes are moved, other directions reversed."""
    body: Subgraph = step.attributes["body"]
    count = step.attributes["num_scan_inputs"]
    if inputs[0] is None:
        raise ExportError(f"The Scan {step.name!r} is of opset 8, with a batch; convert the file to a later opset.")
    tensors = [as_tensor(one) for one in inputs]
    state, rows = tensors[: len(tensors) - count], tensors[len(tensors) - count :]
    axes = step.attributes.get("scan_input_axes") or [0] * count
    turns = step.attributes.get("scan_input_directions") or [0] * count
    moved = [row.movedim(axis, 0) for row, axis in zip(rows, axes, strict=True)]
    moved = [row.flip(0) if turn else row for row, turn in zip(moved, turns, strict=True)]

    def combine(*tensors: torch.Tensor) -> list[torch.Tensor]:
        found = [as_tensor(one) for one in run(body, {**values, **dict(zip(body.inputs, tensors, strict=True))})]
        return [*found[: len(state)], *(one.clone() for one in found[len(state) :])]

    if all(type(one) in (torch.Tensor, torch.nn.Parameter) for one in tensors) or not state:
        last, collected = _python_scan(combine, state, moved)
    else:
        results = list(torch.ops.higher_order.scan(combine, [one.clone() for one in state], moved, ()))
        last, collected = results[: len(state)], results[len(state) :]
    outputs = len(collected)
    axes = step.attributes.get("scan_output_axes") or [0] * outputs
    turns = step.attributes.get("scan_output_directions") or [0] * outputs
    collected = [row.flip(0) if turn else row for row, turn in zip(collected, turns, strict=True)]
    return [*last, *(row.movedim(0, axis) for row, axis in zip(collected, axes, strict=True))]


def _python_scan(combine: Any, state: list[torch.Tensor], rows: list[torch.Tensor]) -> tuple[list[Any], list[Any]]:
    collected: list[Any] = []
    for time in range(rows[0].shape[0]):
        found = combine(*state, *(row[time] for row in rows))
        state = found[: len(state)]
        collected.append(found[len(state) :])
    return state, [torch.stack(column) for column in zip(*collected, strict=True)]
