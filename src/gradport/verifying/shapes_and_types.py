"""Shapes and types: what the model declares and what ONNX infers, against those that runs give at several sizes.

The inlined model goes through ONNX's shape inference (strict, with data propagation), and every call of a local
function through `onnx.shape_inference.infer_function_output_types`. A dimension that a run contradicts is wrong; one
that is a number and moves with a dynamic dimension is over-specialised; one that is neither declared nor inferred is
missing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import onnx
import onnx.checker
import onnx.helper
import onnx.shape_inference
import onnx_ir as ir
import torch

from gradport.errors import ProgramError, TargetError, first_line
from gradport.evidence.evidence import Finding, Outcome, Severity
from gradport.proving.answers import InputSet
from gradport.proving.intermediates import Flat, fetch_values, flat
from gradport.runtimes.ort import unoptimized
from gradport.verifying.verification import Verification

__all__ = ["shapes_and_types"]

Shape = tuple[int | str | None, ...]

_LISTED = 4

_VALUES = 4000
"""Nodes above which the values inside are not fetched; the graph's inputs and outputs always are."""


@dataclasses.dataclass(frozen=True)
class _Seen:
    """The shape and type that a run gave a value."""

    case: str
    shape: tuple[int, ...]
    dtype: torch.dtype


def shapes_and_types(verification: Verification, cases: Sequence[InputSet], place: str | None) -> Iterator[Finding]:
    """Findings of the checker, of the versions that the file states, and of its shapes.

    Args:
        verification: the model and the Subject.
        cases: at two sizes at least, where a dimension is dynamic.
        place: the Subject's source line.
    """
    model = verification.program.model
    yield _check_shapes(model, place)
    yield _versions(verification, place)
    try:
        flat_model = flat(model)
    except Exception as error:
        yield _finding(
            "shapes", Outcome.SKIPPED, f"Its functions cannot be inlined, so no shape was inferred: {error}", place
        )
        return
    seen = _shapes_of_runs(verification, flat_model, cases)
    inside = [value for node in model.graph for value in node.outputs]
    every = {str(v.name): v for v in [*model.graph.inputs, *model.graph.outputs, *inside] if v.shape is not None}
    declared = {name: _declared_shapes(value) for name, value in every.items()}
    yield _judge("shapes/declared", "The shapes that the file declares", declared, seen, place)
    yield _inference(flat_model, seen, place)
    yield from _calls(model, place)


def _inference(flat_model: Flat, seen: Mapping[str, Sequence[_Seen]], place: str | None) -> Finding:
    """What ONNX infers from the inputs alone. Where it is at odds with the runs the model is at fault only if a
    dimension became a number that moves; of the rest (a pool with ceil_mode) inference itself is."""
    proto = ir.to_proto(flat_model.model)
    del proto.graph.value_info[:]
    said = ""
    try:
        inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
    except Exception as error:
        said = f" Strict inference fails: {first_line(error)}"
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    infos = [*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output]
    found = _judge(
        "shapes/inferred", "The shapes that ONNX infers", {i.name: _infer_shapes(i) for i in infos}, seen, place
    )
    odd = bool(said) or (found.outcome == Outcome.FAILED and found.kind != "over-specialised")
    if not odd:
        return found
    outcome = Outcome.FAILED if found.kind == "over-specialised" else Outcome.OK
    return dataclasses.replace(
        found,
        outcome=outcome,
        kind=found.kind if outcome == Outcome.FAILED else "inference",
        severity=Severity.ERROR if outcome == Outcome.FAILED else Severity.WARNING,
        message=found.message + said,
    )


def _check_shapes(model: ir.Model, place: str | None) -> Finding:
    try:
        onnx.checker.check_model(ir.to_proto(model))
    except Exception as error:
        return _finding("checker", Outcome.FAILED, f"onnx.checker refuses the model: {first_line(error)}", place)
    return _finding("checker", Outcome.OK, "onnx.checker takes the model.", place)


def _versions(verification: Verification, place: str | None) -> Finding:
    """The opset that was asked for is the one that stands there, every function agrees, and the IR version knows it."""
    model = verification.program.model
    asked = verification.program.provenance.get("options", {}).get("opset_version")
    opset = verification.program.opset
    wrong = []
    if asked is not None and asked != opset:
        wrong.append(f"opset {asked} was asked for and {opset} stands in the file")
    for function in model.functions.values():
        own = function.opset_imports.get("", opset)
        if own != opset:
            wrong.append(f"the function {function.name} imports opset {own}, the model {opset}")
    needed = onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", opset)], ignore_unknown=True)
    if (model.ir_version or 0) < needed:
        wrong.append(f"IR version {model.ir_version} is older than opset {opset}, which needs {needed}")
    if wrong:
        return _finding("versions", Outcome.FAILED, f"Versions do not fit: {'; '.join(wrong)}.", place)
    return _finding("versions", Outcome.OK, f"Opset {opset} and IR version {model.ir_version} fit.", place)


def _shapes_of_runs(verification: Verification, flat_model: Flat, cases: Sequence[InputSet]) -> dict[str, list[_Seen]]:
    """The shapes that runs give every value; those of the graph's outputs are eager's."""
    assert verification.matched is not None
    seen: dict[str, list[_Seen]] = {}

    def note(name: str, case: InputSet, tensor: torch.Tensor) -> None:
        seen.setdefault(name, []).append(_Seen(case.what, tuple(tensor.shape), tensor.dtype))

    inside = [str(v.name) for node in flat_model.nodes() for v in node.outputs if v.name]
    outputs = set(verification.matched.outputs.values())
    for case in cases:
        try:
            answer = verification.answer(case)
        except TargetError:  # sizes that eager does not take
            continue
        feeds = verification.feeds(answer)
        for name, tensor in feeds.items():
            note(name, case, tensor)
        for ours, theirs in verification.matched.outputs.items():
            note(theirs, case, answer.expected[ours])
        if len(inside) > _VALUES:
            continue
        try:
            found = fetch_values(flat_model, unoptimized, feeds, [name for name in inside if name not in outputs])
        except ProgramError:
            continue
        for name, tensor in found.items():
            note(name, case, tensor)
    return seen


def _judge(
    key: str,
    what: str,
    said: Mapping[str, tuple[Shape | None, int]],
    seen: Mapping[str, Sequence[_Seen]],
    place: str | None,
) -> Finding:
    wrong, missing = [], 0
    for name, (shape, elem_type) in said.items():
        runs = seen.get(name, ())
        if not runs:
            continue
        if shape is None:
            missing += 1
            continue
        complaint = _complaint(name, shape, elem_type, runs)
        if complaint:
            wrong.append(complaint)
        missing += sum(dim is None for dim in shape)
    if wrong:
        kind = "over-specialised" if any("over-specialised" in text for text in wrong) else "wrong"
        listed = "; ".join(wrong[:_LISTED]) + (f"; and {len(wrong) - _LISTED} more" if len(wrong) > _LISTED else "")
        return _finding(key, Outcome.FAILED, f"{what} are wrong: {listed}.", place, kind, float(len(wrong)))
    if missing and key == "shapes/declared":
        return _finding(
            key,
            Outcome.OK,
            f"{what} leave {missing} dimensions open.",
            place,
            "missing",
            float(missing),
            Severity.WARNING,
        )
    return _finding(key, Outcome.OK, f"{what} agree with {len(seen)} values at every size that ran.", place)


def _complaint(name: str, shape: Shape, elem_type: int, runs: Sequence[_Seen]) -> str | None:
    first = runs[0]
    wanted = int(ir.tensor_adapters.from_torch_dtype(first.dtype))
    if elem_type and elem_type != wanted:
        return f"{name!r} is {ir.DataType(elem_type).name} and a run gives {ir.DataType(wanted).name}"
    for run in runs:
        if len(run.shape) != len(shape):
            return f"{name!r} has rank {len(shape)}, on {run.case} {len(run.shape)}"
    for axis, dim in enumerate(shape):
        sizes = {run.shape[axis] for run in runs}
        if isinstance(dim, int) and sizes != {dim}:
            other = next(run for run in runs if run.shape[axis] != dim)
            verdict = "over-specialised: it is" if len(sizes) > 1 else "wrong: it is"
            return f"dimension {axis} of {name!r} is {verdict} {dim}, on {other.case} {other.shape[axis]}"
    return None


def _calls(model: ir.Model, place: str | None) -> Iterator[Finding]:
    """Every call of a local function: the types of its outputs follow from those of its inputs."""
    protos = {key: ir.to_proto(function) for key, function in model.functions.items()}
    if not protos:
        return
    failed, asked = [], 0
    for node in model.graph:
        proto = protos.get(node.op_identifier())
        if proto is None or any(v is not None and v.type is None for v in node.inputs):
            continue
        if any(inner.op_identifier() in protos for inner in model.functions[node.op_identifier()]):
            continue  # ONNX infers through one level
        asked += 1
        inputs = [_type(value) for value in node.inputs]
        attributes = [ir.to_proto(attribute) for attribute in node.attributes.values()]
        try:
            types = onnx.shape_inference.infer_function_output_types(proto, inputs, attributes)
        except Exception as error:
            failed.append(f"{node.name}: {first_line(error)}")
            continue
        for value, found in zip(node.outputs, types, strict=False):
            wanted = value.dtype
            if wanted is not None and found.HasField("tensor_type") and found.tensor_type.elem_type != wanted:
                name = ir.DataType(found.tensor_type.elem_type).name
                failed.append(f"{node.name} gives {name} where {value.name!r} is {wanted.name}")
    if failed:
        yield _finding(
            "shapes/functions", Outcome.FAILED, f"Calls of local functions: {'; '.join(failed[:_LISTED])}.", place
        )
    elif asked:
        yield _finding("shapes/functions", Outcome.OK, f"The types of {asked} calls of local functions follow.", place)


def _type(value: ir.Value | None) -> onnx.TypeProto:
    if value is None or value.dtype is None:
        return onnx.TypeProto()
    shape = None if value.shape is None else [d if isinstance(d, int) else d.value for d in value.shape]
    return onnx.helper.make_tensor_type_proto(value.dtype.value, shape)


def _declared_shapes(value: ir.Value) -> tuple[Shape | None, int]:
    shape = tuple(dim if isinstance(dim, int) else dim.value for dim in value.shape or ())
    return shape, 0 if value.dtype is None else value.dtype.value


def _infer_shapes(info: onnx.ValueInfoProto) -> tuple[Shape | None, int]:
    tensor = info.type.tensor_type
    if not tensor.HasField("shape"):
        return None, tensor.elem_type
    dims: list[int | str | None] = []
    for dim in tensor.shape.dim:
        dims.append(dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None)
    return tuple(dims), tensor.elem_type


def _finding(
    key: str,
    outcome: Outcome,
    message: str,
    place: str | None,
    kind: str = "",
    figure: float | None = None,
    severity: Severity | None = None,
) -> Finding:
    return Finding(
        key=key,
        rule=key.partition("/")[0],
        outcome=outcome,
        kind=kind,
        severity=severity or (Severity.ERROR if outcome == Outcome.FAILED else Severity.INFO),
        figure=figure,
        unit="dimensions" if figure is not None else "",
        where=place,
        message=message,
    )
