"""Shapes and types: compares declared and inferred shapes with those of runs at several sizes.

The inlined model goes through ONNX's shape inference (strict, with data propagation), and every call of a local
function through `onnx.shape_inference.infer_function_output_types`. A dimension that differs in a run is wrong. A
fixed dimension that changes with a dynamic dimension is over-specialised. A dimension that is neither declared nor
inferred is missing.
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
"""Number of nodes above which intermediate values are not fetched; inputs and outputs of the graph always are."""


@dataclasses.dataclass(frozen=True)
class _Seen:
    """The shape and type of a value in a run."""

    case: str
    shape: tuple[int, ...]
    dtype: torch.dtype


def shapes_and_types(verification: Verification, cases: Sequence[InputSet], place: str | None) -> Iterator[Finding]:
    """Yields the Findings of the checker, the versions and the shapes.

    Args:
        verification: the model and the Subject.
        cases: inputs, at two sizes or more if a dimension is dynamic.
        place: the Subject's source line.
    """
    model = verification.program.model
    yield _run_checker(model, place)
    yield _check_versions(verification, place)
    try:
        flat_model = flat(model)
    except Exception as error:
        yield _finding(
            "shapes", Outcome.SKIPPED, f"No shape was inferred, because inlining functions failed: {error}", place
        )
        return
    seen = _shapes_of_runs(verification, flat_model, cases)
    inside = [value for node in model.graph for value in node.outputs]
    every = {str(v.name): v for v in [*model.graph.inputs, *model.graph.outputs, *inside] if v.shape is not None}
    declared = {name: _declared_shapes(value) for name, value in every.items()}
    yield _judge("shapes/declared", "The declared shapes", declared, seen, place)
    yield _check_inference(flat_model, seen, place)
    yield from _check_calls(model, place)


def _check_inference(flat_model: Flat, seen: Mapping[str, Sequence[_Seen]], place: str | None) -> Finding:
    """The Finding on the shapes that ONNX infers from only the inputs.

    If they differ from the runs, the model is wrong only if a fixed dimension changes; other differences (a pool with
    ceil_mode) are errors of the inference.
    """
    proto = ir.to_proto(flat_model.model)
    del proto.graph.value_info[:]
    remark = ""
    try:
        inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
    except Exception as error:
        remark = f" Strict inference fails: {first_line(error)}"
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    infos = [*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output]
    inferred_shapes = {info.name: _infer_shapes(info) for info in infos}
    finding = _judge("shapes/inferred", "The shapes that ONNX infers", inferred_shapes, seen, place)
    odd = bool(remark) or (finding.outcome == Outcome.FAILED and finding.kind != "over-specialised")
    if not odd:
        return finding
    outcome = Outcome.FAILED if finding.kind == "over-specialised" else Outcome.OK
    return dataclasses.replace(
        finding,
        outcome=outcome,
        kind=finding.kind if outcome == Outcome.FAILED else "inference",
        severity=Severity.ERROR if outcome == Outcome.FAILED else Severity.WARNING,
        message=finding.message + remark,
    )


def _run_checker(model: ir.Model, place: str | None) -> Finding:
    try:
        onnx.checker.check_model(ir.to_proto(model))
    except Exception as error:
        return _finding("checker", Outcome.FAILED, f"onnx.checker rejects the model: {first_line(error)}", place)
    return _finding("checker", Outcome.OK, "onnx.checker accepts the model.", place)


def _check_versions(verification: Verification, place: str | None) -> Finding:
    """Checks that the file has the requested opset, that all functions use it, and that the IR version supports it."""
    model = verification.program.model
    asked = verification.program.provenance.get("options", {}).get("opset_version")
    opset = verification.program.opset
    wrong = []
    if asked is not None and asked != opset:
        wrong.append(f"opset {asked} was requested, but the file has {opset}")
    for function in model.functions.values():
        own = function.opset_imports.get("", opset)
        if own != opset:
            wrong.append(f"the function {function.name} imports opset {own}, the model {opset}")
    needed = onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", opset)], ignore_unknown=True)
    if (model.ir_version or 0) < needed:
        wrong.append(f"IR version {model.ir_version} is older than opset {opset}, which needs {needed}")
    if wrong:
        return _finding("versions", Outcome.FAILED, f"Versions do not match: {'; '.join(wrong)}.", place)
    return _finding("versions", Outcome.OK, f"Opset {opset} and IR version {model.ir_version} match.", place)


def _shapes_of_runs(verification: Verification, flat_model: Flat, cases: Sequence[InputSet]) -> dict[str, list[_Seen]]:
    """The shapes of every value at run time; those of the graph's outputs come from eager."""
    assert verification.matched is not None
    seen: dict[str, list[_Seen]] = {}

    def note(name: str, case: InputSet, tensor: torch.Tensor) -> None:
        seen.setdefault(name, []).append(_Seen(case.what, tuple(tensor.shape), tensor.dtype))

    inside = [str(v.name) for node in flat_model.nodes() for v in node.outputs if v.name]
    outputs = set(verification.matched.outputs.values())
    for case in cases:
        try:
            answer = verification.answer(case)
        except TargetError:  # eager rejects these sizes
            continue
        feeds = verification.feeds(answer)
        for name, tensor in feeds.items():
            note(name, case, tensor)
        for ours, theirs in verification.matched.outputs.items():
            note(theirs, case, answer.expected[ours])
        if len(inside) > _VALUES:
            continue
        try:
            fetched = fetch_values(flat_model, unoptimized, feeds, [name for name in inside if name not in outputs])
        except ProgramError:
            continue
        for name, tensor in fetched.items():
            note(name, case, tensor)
    return seen


def _judge(
    key: str,
    what: str,
    shapes: Mapping[str, tuple[Shape | None, int]],
    seen: Mapping[str, Sequence[_Seen]],
    place: str | None,
) -> Finding:
    wrong, missing = [], 0
    for name, (shape, elem_type) in shapes.items():
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
            f"{what} lack {missing} dimensions.",
            place,
            "missing",
            float(missing),
            Severity.WARNING,
        )
    return _finding(key, Outcome.OK, f"{what} agree with {len(seen)} values at every tested size.", place)


def _complaint(name: str, shape: Shape, elem_type: int, runs: Sequence[_Seen]) -> str | None:
    first = runs[0]
    wanted = int(ir.tensor_adapters.from_torch_dtype(first.dtype))
    if elem_type and elem_type != wanted:
        return f"{name!r} is {ir.DataType(elem_type).name}, but {ir.DataType(wanted).name} at run time"
    for run in runs:
        if len(run.shape) != len(shape):
            return f"{name!r} has rank {len(shape)}, but {len(run.shape)} on {run.case}"
    for axis, dim in enumerate(shape):
        sizes = {run.shape[axis] for run in runs}
        if isinstance(dim, int) and sizes != {dim}:
            other = next(run for run in runs if run.shape[axis] != dim)
            verdict = "over-specialised: it is" if len(sizes) > 1 else "wrong: it is"
            return f"dimension {axis} of {name!r} is {verdict} {dim}, but {other.shape[axis]} on {other.case}"
    return None


def _check_calls(model: ir.Model, place: str | None) -> Iterator[Finding]:
    """Checks for every call of a local function that ONNX infers the declared types of its outputs."""
    protos = {key: ir.to_proto(function) for key, function in model.functions.items()}
    if not protos:
        return
    failed, asked = [], 0
    for node in model.graph:
        proto = protos.get(node.op_identifier())
        if proto is None or any(v is not None and v.type is None for v in node.inputs):
            continue
        if any(inner.op_identifier() in protos for inner in model.functions[node.op_identifier()]):
            continue  # ONNX infers through only one level
        asked += 1
        inputs = [_type_proto(value) for value in node.inputs]
        attributes = [ir.to_proto(attribute) for attribute in node.attributes.values()]
        try:
            types = onnx.shape_inference.infer_function_output_types(proto, inputs, attributes)
        except Exception as error:
            failed.append(f"{node.name}: {first_line(error)}")
            continue
        for value, inferred in zip(node.outputs, types, strict=False):
            wanted = value.dtype
            if wanted is not None and inferred.HasField("tensor_type") and inferred.tensor_type.elem_type != wanted:
                name = ir.DataType(inferred.tensor_type.elem_type).name
                failed.append(f"{node.name} gives {name}, but {value.name!r} is {wanted.name}")
    if failed:
        yield _finding(
            "shapes/functions", Outcome.FAILED, f"Calls of local functions: {'; '.join(failed[:_LISTED])}.", place
        )
    elif asked:
        yield _finding("shapes/functions", Outcome.OK, f"ONNX infers the types of {asked} function calls.", place)


def _type_proto(value: ir.Value | None) -> onnx.TypeProto:
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
