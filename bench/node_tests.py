"""Suite of a campaign: from_onnx on the node tests of the onnx package, and the peers that are installed.

    gradport campaign bench/node_tests.py

Each test is a model of one operator, at the opset at which it was last changed, with inputs and outputs. Left out are
tests of sequences, optionals, strings, opsets above 25, training operators and ai.onnx.ml. Outputs must agree to the
test's own tolerance, those in bfloat16, float16 and float8 to 1 %. The column `gradients` exports each right module
with floating-point inputs and outputs again, with the gradients of its inputs: right if the proof of export holds,
which compares them with torch's. The gradients of onnx-ad for the same model are a second opinion, in `onnx-ad`:
"failed" where they differ, "refused" where it has none.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.util
import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
import onnx.backend.test.case.node
import torch
from onnx import numpy_helper

import gradport

NEWEST = 25
"""The last opset that counts."""


def cases(only: str = "") -> Iterator[Any]:
    """The node tests, which the onnx package generates."""
    with contextlib.redirect_stdout(io.StringIO()):
        found = onnx.backend.test.case.node.collect_testcases(None)
    yield from (case for case in found if only in case.name)


def is_in_scope(model: onnx.ModelProto) -> bool:
    """Whether a test is about inference on tensors with operators of ai.onnx."""
    kinds = {value.type.WhichOneof("value") for value in (*model.graph.input, *model.graph.output)}
    types = {value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)}
    domains = {node.domain for node in model.graph.node}
    if any(one.version > NEWEST for one in model.opset_import if one.domain in ("", "ai.onnx")):
        return False
    return kinds == {"tensor_type"} and onnx.TensorProto.STRING not in types and domains <= {"", "ai.onnx"}


def by_gradport(model: onnx.ModelProto) -> Callable[..., Any]:
    """The imported module."""
    return gradport.from_onnx(model)


def by_onnx2torch(model: onnx.ModelProto) -> Callable[..., Any]:
    """onnx2torch."""
    import onnx2torch

    return onnx2torch.convert(model)


def by_onnx2pytorch(model: onnx.ModelProto) -> Callable[..., Any]:
    """onnx2pytorch."""
    import onnx2pytorch

    return onnx2pytorch.ConvertModel(model, experimental=True)


def by_onnx2fx(model: onnx.ModelProto) -> Callable[..., Any]:
    """onnx2fx."""
    import onnx2fx

    return onnx2fx.convert(model)


PEERS = {"gradport": by_gradport, "onnx2torch": by_onnx2torch, "onnx2pytorch": by_onnx2pytorch, "onnx2fx": by_onnx2fx}


def outcome(case: Any, convert: Callable[[onnx.ModelProto], Callable[..., Any]]) -> tuple[str, str]:
    """right, wrong, refused or outside, and why."""
    model, sets = case.model, case.data_sets
    if model is None or not is_in_scope(model):
        return "outside", "no inference on tensors"
    try:
        module = convert(model)
        for inputs, expected in sets:
            tensors = [_tensor(_array(one)) for one in inputs]
            with torch.no_grad():
                found = module(*tensors)
            found = list(found.values()) if isinstance(found, dict) else found
            found = list(found) if isinstance(found, (tuple, list)) else [found]
            reason = differ(found, [_array(one) for one in expected], case)
            if reason:
                return "wrong", reason
    except Exception as error:
        return "refused", f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:160]
    return "right", ""


def second_opinion(case: Any, inputs: list[torch.Tensor], program: Any) -> str:
    """agrees, differs, or why onnx-ad says nothing; the cotangents are ones."""
    try:
        import onnx_ad
        import onnxruntime

        model = onnx_ad.reverse(case.model, layout="onnx")  # seeds have one more axis
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        names = [value.name for value in case.model.graph.input]
        feeds = {name: one.numpy() for name, one in zip(names, inputs, strict=True)}
        for value in session.get_inputs():
            if value.name not in feeds:
                feeds[value.name] = np.ones(
                    (*_array(case.data_sets[0][1][_place(case, value.name)]).shape, 1), np.float32
                )
        results = dict(zip([one.name for one in session.get_outputs()], session.run(None, feeds), strict=True))
    except ImportError:
        return "onnx-ad is not installed"
    except Exception:
        return "no gradient of onnx-ad"
    ones = [torch.ones_like(_tensor(_array(one))) for one in case.data_sets[0][1] if _array(one).dtype.kind == "f"]
    specs = [spec for spec in program.inputs if spec.role == "cotangent"]
    if len(specs) != len(ones):
        return "no gradient of onnx-ad"
    found = dict(zip([spec.name for spec in program.outputs], program.run(*inputs, *ones), strict=True))
    arguments = [spec.name for spec in program.inputs if spec.role == "argument"]
    pairs = [
        (found.get(f"grad_{ours}"), results.get(f"adj_{theirs}")) for ours, theirs in zip(arguments, names, strict=True)
    ]
    pairs = [(a.numpy(), b.reshape(a.shape)) for a, b in pairs if a is not None and b is not None]
    same = all(np.allclose(a, b, rtol=1e-3, atol=1e-5, equal_nan=True) for a, b in pairs)
    return "agrees" if pairs and same else "differs" if pairs else "no gradient of onnx-ad"


def _place(case: Any, adjoint: str) -> int:
    return [f"adj_{value.name}" for value in case.model.graph.output].index(adjoint)


def with_constants(case: Any) -> Any:
    """The test with shapes, axes and the like as constants: a graph cannot differentiate what they are."""
    from gradport.importing.files import _inlined
    from gradport.importing.plan import _read_as_numbers, plan_of

    numbers = _read_as_numbers(plan_of(_inlined(case.model)).graph)
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    kept = [at for at, value in enumerate(model.graph.input) if value.name not in numbers]
    given, expected = case.data_sets[0]
    for at, value in enumerate(case.model.graph.input):
        if at not in kept:
            model.graph.initializer.append(numpy_helper.from_array(_array(given[at]), value.name))
            model.graph.input.remove(next(one for one in model.graph.input if one.name == value.name))
    return dataclasses.replace(case, model=model, data_sets=[([given[at] for at in kept], expected)])


def round_trip(case: Any, *, opinion: bool = False) -> tuple[str, str]:
    """Exports the imported module with the gradients of its inputs, or holds them against onnx-ad."""
    if outcome(case, by_gradport)[0] != "right":
        return "outside", "not imported"
    case = with_constants(case)
    inputs = [_tensor(_array(one)) for one in case.data_sets[0][0]]
    wide = (torch.float32, torch.float64)
    module = by_gradport(case.model)
    with torch.no_grad():
        results = module(*inputs)
    outputs = list(results.values()) if isinstance(results, dict) else [results]
    if not any(one.dtype in wide and one.numel() for one in inputs) or not any(one.dtype in wide for one in outputs):
        return "outside", "no gradient"
    try:
        program = gradport.export(module, tuple(inputs), wrt="inputs", functions="inline")
        if opinion:
            found = second_opinion(case, inputs, program)
            return {"agrees": ("right", ""), "differs": ("wrong", "onnx-ad differs")}.get(found, ("refused", found))
    except Exception as error:
        if opinion:
            return "outside", "not exported"
        differs = "differs from eager" in str(error)
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:200]
        return ("wrong" if differs else "refused"), reason
    return "right", ""


def _array(value: Any) -> np.ndarray:
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def _tensor(array: np.ndarray) -> torch.Tensor:
    if array.dtype.name == "bfloat16" or array.dtype.name.startswith("float8"):
        return torch.from_numpy(array.astype(np.float32)).to(getattr(torch, array.dtype.name))
    return torch.from_numpy(np.array(array, copy=True))


def differ(found: list[Any], expected: list[np.ndarray], case: Any) -> str:
    """Why outputs differ; empty if they agree. Random operators agree if shape and dtype do."""
    for one, other in zip(found, expected, strict=True):
        if one is None:
            return "an output is missing"
        array = one.detach().float().numpy() if one.dtype in LOW else one.detach().numpy()
        other = other.astype(np.float32) if array.dtype != other.dtype and one.dtype in LOW else other
        if array.dtype != other.dtype or array.shape != other.shape:
            return f"{array.dtype}{array.shape} is not {other.dtype}{other.shape}"
        rtol = max(case.rtol, 1e-2 if one.dtype in LOW or other.dtype == np.float16 else 0)
        atol = max(case.atol, 1e-2 if one.dtype in LOW else 1e-6)
        if not np.allclose(array, other, rtol=rtol, atol=atol, equal_nan=True):
            return f"differs by {np.nanmax(np.abs(array.astype(float) - other.astype(float))):.2g}"
    return ""


LOW = (torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz)


def judged(case: Any, column: str) -> gradport.Evidence | None:
    """Fails where a test is wrong; skipped where it is outside."""
    if column in PEERS:
        verdict, reason = outcome(case, PEERS[column])
    else:
        verdict, reason = round_trip(case, opinion=column == "onnx-ad")
    if verdict == "refused":
        raise gradport.ExportError(reason)
    assert verdict != "wrong", reason
    if verdict == "outside":
        return gradport.Evidence(case.name, (gradport.Finding("scope", "scope", "skipped", message=reason),))
    return None


def columns() -> list[str]:
    """The importers that are installed, and the two columns of gradients."""
    return [name for name in PEERS if importlib.util.find_spec(name) is not None] + ["gradients", "onnx-ad"]


TASKS = [
    gradport.Task(
        f"{case.name} (opset {case.model.opset_import[0].version})", functools.partial(judged, case, column), column
    )
    for case in cases()
    if case.model is not None and is_in_scope(case.model)
    for column in columns()
]
