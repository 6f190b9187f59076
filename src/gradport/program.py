"""Program: an ONNX model with names, roles and provenance; it runs in stock ONNX Runtime, saves and loads."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
import torch
from onnx_ir.tensor_adapters import to_torch_dtype

from gradport.compat.onnxruntime import tensor_by_dlpack
from gradport.errors import OutputError, ProgramError, first_line
from gradport.randomness import standard

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["FunctionInfo", "Program", "RandomSpec", "TensorSpec", "new_session", "run_session", "weight"]

NAMES = "gradport.names"
FUNCTIONS = "gradport.functions"
PROVENANCE = "gradport.provenance"

_EXTERNAL_ABOVE = 1 << 30
_PROTOBUF_LIMIT = (1 << 31) - (1 << 20)


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """One graph input or output.

    Attributes:
        name: its name in the file.
        dtype: torch dtype.
        shape: sizes; a str is a dynamic dimension.
        role: argument, target, cotangent, random, state, lr, output, loss, activation, gradient or new_state.
        of: the name that it belongs to (a gradient's input, a cotangent's output), or None.
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int | str, ...]
    role: str
    of: str | None


@dataclasses.dataclass(frozen=True)
class FunctionInfo:
    """One local function: what it carries, where that stands in the user's source, and how many nodes call it."""

    domain: str
    name: str
    phase: str
    file: str | None
    line: int | None
    uses: int


@dataclasses.dataclass(frozen=True)
class RandomSpec:
    """A random tensor that is a graph input: standard normal, or uniform on [0, 1)."""

    name: str
    distribution: str
    shape: tuple[int | str, ...]
    dtype: torch.dtype


class Program:
    """An ONNX model that gradport wrote, or any other that is to be run or verified.

    Args:
        model: the model; it is kept, not copied.
    """

    def __init__(self, model: ir.Model) -> None:
        self.model = model
        self._session: onnxruntime.InferenceSession | None = None

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Graph inputs in order."""
        return self._specs(self.model.graph.inputs, "argument")

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Graph outputs in order."""
        return self._specs(self.model.graph.outputs, "output")

    @property
    def functions(self) -> tuple[FunctionInfo, ...]:
        """The local functions that carry a custom Function's forward or backward, in the model's order."""
        known = {(f["domain"], f["name"], f["overload"]): f for f in self._json(FUNCTIONS, [])}
        uses = self._uses()
        return tuple(
            FunctionInfo(key[0], key[1], f["phase"], f["file"], f["line"], uses.get(key, 0)) for key, f in known.items()
        )

    @property
    def missing_gradients(self) -> tuple[str, ...]:
        """Names that were wanted and that the author's backward gives no gradient for."""
        return tuple(self.provenance.get("missing_gradients", ()))

    @property
    def dropped_updates(self) -> tuple[str, ...]:
        """Names of the buffers that the subject updates and this graph does not."""
        return tuple(self.provenance.get("dropped_updates", ()))

    @property
    def random(self) -> tuple[RandomSpec, ...]:
        """The random tensors among the inputs."""
        kinds = self.provenance.get("distributions", {})
        return tuple(RandomSpec(s.name, kinds[s.name], s.shape, s.dtype) for s in self.inputs if s.role == "random")

    @property
    def opset(self) -> int:
        """Version of the ai.onnx opset."""
        return int(self.model.opset_imports.get("", 0))

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the model came from: subject, source, versions, static arguments, options."""
        return dict(self._json(PROVENANCE, {}))

    def run(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Runs in ONNX Runtime's CPU provider.

        Args:
            tensors: one for each graph input, in order; or one for each that has no starting value (a training
                step's batch and learning rate).

        Raises:
            ProgramError: too few or too many tensors, a dtype or shape that does not fit, or a runtime failure.
        """
        names = [spec.name for spec in self.inputs]
        needed = [name for name in names if name not in self._starts()]
        taken = names if len(tensors) == len(names) else needed
        if len(tensors) != len(taken):
            raise ProgramError(f"The program takes {len(needed)} tensors ({', '.join(needed)}), not {len(tensors)}.")
        return tuple(self.run_named(dict(zip(taken, tensors, strict=True))).values())

    def run_named(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Runs in ONNX Runtime's CPU provider.

        Args:
            tensors: one for each graph input, by name; state that is left out has its starting value.

        Raises:
            ProgramError: a missing or unknown name, a dtype or shape that does not fit, or a runtime failure.
        """
        starts = self._starts()
        specs = tuple(spec for spec in self.inputs if spec.name in tensors or spec.name not in starts)
        require_fitting(specs, tensors)
        return run_session(self.session(), {spec.name: tensors[spec.name] for spec in specs})

    def session(self) -> onnxruntime.InferenceSession:
        """The ONNX Runtime session that `run` uses, made on first use.

        Raises:
            ProgramError: ONNX Runtime refuses the model.
        """
        if self._session is None:
            self._session = new_session(self.model)
        return self._session

    def state(self) -> dict[str, torch.Tensor]:
        """The starting value of each state input, by name; none where the Program is no training step."""
        starts = self._starts()
        return {
            spec.name: torch.from_numpy(np.array(starts[spec.name].numpy())).to(spec.dtype)
            for spec in self.inputs
            if spec.role == "state"
        }

    def draw(self, seed: int, **sizes: int) -> tuple[torch.Tensor, ...]:
        """The random tensors among the inputs, drawn with `seed`; none where the subject draws none.

        Args:
            seed: of the draws.
            sizes: of every dynamic dimension that their shapes hold.

        Raises:
            ProgramError: a dimension's size is missing.
        """
        generator = torch.Generator().manual_seed(seed)
        return tuple(
            standard(spec.distribution, [_sized(dim, sizes, spec) for dim in spec.shape], spec.dtype, generator)
            for spec in self.random
        )

    def save(self, path: str | os.PathLike[str], *, external_data: bool | None = None) -> None:
        """Writes the model; nothing half-written is left behind.

        Args:
            path: the `.onnx` file.
            external_data: whether initializers go to `<name>.onnx.data`; None: above 1 GiB.

        Raises:
            OutputError: the file cannot be written.
        """
        path = os.fspath(path)
        size = weight(self.model)
        external = size > _EXTERNAL_ABOVE if external_data is None else external_data
        if size > _PROTOBUF_LIMIT and not external:
            raise OutputError(
                f"{path} would hold {size} bytes of weights, more than protobuf's 2 GiB; "
                "save it with external_data=True."
            )
        folder, base = os.path.split(os.path.abspath(path))
        try:
            with tempfile.TemporaryDirectory(dir=folder, prefix=".gradport-") as scratch:
                ir.save(self.model, os.path.join(scratch, base), external_data=base + ".data" if external else None)
                for name in sorted(os.listdir(scratch), reverse=True):  # the data first, then the model
                    os.replace(os.path.join(scratch, name), os.path.join(folder, name))
        except OSError as error:
            raise OutputError(f"{path} cannot be written: {error.strerror or error}.") from error

    def __repr__(self) -> str:
        ins = ", ".join(spec.name for spec in self.inputs)
        outs = ", ".join(spec.name for spec in self.outputs)
        return f"Program({ins} -> {outs})"

    def _specs(self, values: Iterable[ir.Value], role: str) -> tuple[TensorSpec, ...]:
        known = {entry["name"]: entry for entry in self._json(NAMES, [])}
        return tuple(_spec(value, known.get(value.name, {"role": role, "of": None})) for value in values)

    def _starts(self) -> dict[str, ir.TensorProtocol]:
        """The inputs that have a value where none is given, with it."""
        held = self.model.graph.initializers
        inputs = {str(value.name) for value in self.model.graph.inputs}
        return {n: v.const_value for n, v in held.items() if n in inputs and v.const_value is not None}

    def _uses(self) -> dict[tuple[str, str, str], int]:
        uses: dict[tuple[str, str, str], int] = {}
        bodies = [self.model.graph, *(function.graph for function in self.model.functions.values())]
        for node in (node for body in bodies for node in body.all_nodes()):
            key = (node.domain, node.op_type, node.overload)
            uses[key] = uses.get(key, 0) + 1
        return uses

    def _json(self, key: str, default: Any) -> Any:
        text = self.model.metadata_props.get(key)
        return default if text is None else json.loads(text)


def _sized(dim: int | str, sizes: Mapping[str, int], spec: RandomSpec) -> int:
    """The number that a dimension stands for: itself, or an expression of named sizes."""
    if isinstance(dim, int):
        return dim
    import sympy

    found = sympy.sympify(dim, locals={name: sympy.Integer(size) for name, size in sizes.items()})
    if not found.is_Integer:
        missing = ", ".join(sorted(map(str, found.free_symbols)))
        raise ProgramError(f"{spec.name!r} has the shape {list(spec.shape)}: give draw() a size for {missing}.")
    return int(found)


def _spec(value: ir.Value, entry: Mapping[str, Any]) -> TensorSpec:
    if value.dtype is None or isinstance(value.type, (ir.SequenceType, ir.OptionalType)):
        raise ProgramError(f"{value.name!r} is no tensor, or has no dtype, in this model.")
    shape = tuple(dim if isinstance(dim, int) else str(dim.value) for dim in (value.shape or ()))
    return TensorSpec(str(value.name), to_torch_dtype(value.dtype), shape, entry["role"], entry["of"])


def new_session(
    model: ir.Model, options: Any = None, providers: Sequence[str] = ("CPUExecutionProvider",)
) -> onnxruntime.InferenceSession:
    """A session of ONNX Runtime.

    Args:
        model: what to run; models above protobuf's limit go through a file.
        options: `onnxruntime.SessionOptions`, or None for its defaults with as many threads as torch has.
        providers: execution providers in order.

    Raises:
        ProgramError: ONNX Runtime refuses the model.
    """
    import onnxruntime

    if options is None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4
    try:
        with _serialised(model) as source:
            return onnxruntime.InferenceSession(source, options, providers=list(providers))
    except Exception as error:
        raise ProgramError(f"ONNX Runtime refuses this model: {first_line(error, 400)}") from error


def run_session(session: onnxruntime.InferenceSession, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Every output of a session by name, in its order.

    Raises:
        ProgramError: it fails, or gives what is no tensor.
    """
    names = [value.name for value in session.get_outputs()]
    feeds = {name: to_ort_value(tensor) for name, tensor in tensors.items()}
    try:
        results = session.run_with_ort_values(names, feeds)
        return {name: from_ort_value(result) for name, result in zip(names, results, strict=True)}
    except Exception as error:
        raise ProgramError(f"ONNX Runtime fails on this model: {first_line(error, 400)}") from error


def weight(model: ir.Model) -> int:
    """Bytes of all initializers."""
    return sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value is not None)


@contextlib.contextmanager
def _serialised(model: ir.Model) -> Any:
    if weight(model) < _PROTOBUF_LIMIT // 2:
        yield ir.to_proto(model).SerializeToString()
        return
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "model.onnx")
        ir.save(model, file, external_data="model.onnx.data")
        yield file


def require_fitting(specs: tuple[TensorSpec, ...], tensors: Mapping[str, torch.Tensor]) -> None:
    """Checks names, dtypes and shapes, equal dimension names included.

    Raises:
        ProgramError: the first that does not fit.
    """
    names = [spec.name for spec in specs]
    missing = [name for name in names if name not in tensors]
    surplus = [name for name in tensors if name not in names]
    if missing or surplus:
        said = [f"{', '.join(missing)} missing"] * bool(missing) + [f"{', '.join(surplus)} unknown"] * bool(surplus)
        raise ProgramError(f"The program takes {', '.join(names)}: {' and '.join(said)}.")
    sizes: dict[str, int] = {}
    for spec in specs:
        tensor = tensors[spec.name]
        fits = tensor.dtype == spec.dtype and tensor.dim() == len(spec.shape)
        for wanted, size in zip(spec.shape, tensor.shape, strict=False):
            expected = sizes.setdefault(wanted, size) if isinstance(wanted, str) and wanted.isidentifier() else wanted
            fits = fits and (expected == size or not isinstance(expected, int))
        if not fits:
            raise ProgramError(
                f"{spec.name!r} takes {_said(spec.dtype, spec.shape)}, not {_said(tensor.dtype, tuple(tensor.shape))}."
            )


def to_ort_value(tensor: torch.Tensor) -> onnxruntime.OrtValue:
    """An OrtValue with a copy of the data, for every dtype that ONNX has."""
    import onnxruntime

    tensor = tensor.detach().cpu().contiguous()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor).contiguous()
    if tensor.dtype == torch.bfloat16:
        return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(
            tensor.view(torch.uint16).numpy(), ir.DataType.BFLOAT16.value
        )
    return onnxruntime.OrtValue.ortvalue_from_numpy(tensor.numpy())


def from_ort_value(value: onnxruntime.OrtValue) -> torch.Tensor:
    """A torch tensor with the data of an OrtValue."""
    if value.element_type() == ir.DataType.BFLOAT16.value:
        return tensor_by_dlpack(value)
    return torch.from_numpy(value.numpy().copy())


def _said(dtype: torch.dtype, shape: tuple[int | str, ...]) -> str:
    return f"{str(dtype).removeprefix('torch.')}[{', '.join(map(str, shape))}]"
