"""Program: an ONNX model with names, roles and provenance, which runs in ONNX Runtime and can be saved and loaded."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
import torch
from onnx_ir.tensor_adapters import to_torch_dtype

from gradport.compat.extras import Extra, extra
from gradport.errors import OutputError, ProgramError, SpecError
from gradport.model.sessions import PROTOBUF_LIMIT, new_session, run_session, weight
from gradport.model.state_files import require_replaceable, state_file_of, write_state
from gradport.subject.expressions import evaluate, names_in, parse
from gradport.subject.ports import Role

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["FunctionInfo", "Program", "RandomSpec", "TensorSpec"]

FORMAT = "gradport.format"
FORMAT_VERSION = 2
"""The version of written files. Version 1 had the state of a training step as initializers; it can still be read."""

NAMES = "gradport.names"
FUNCTIONS = "gradport.functions"
PROVENANCE = "gradport.provenance"

_EXTERNAL_ABOVE = 1 << 30

_LARGEST_SIZE = 1 << 40
"""Maximum size of a dimension that a file computes; a larger size is a mistake, or an attack."""


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
    role: Role
    of: str | None


@dataclasses.dataclass(frozen=True)
class FunctionInfo:
    """One local function: its phase, its place in the user's source, and the number of nodes that call it."""

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
    """An ONNX model of gradport, or of any other exporter to run or verify.

    Args:
        model: the model, which is not copied.
        state: the starting value of each state input of a training step, by name.
        without_state: the reason, as a sentence, if the model has state inputs and no starting state.
    """

    def __init__(
        self, model: ir.Model, state: Mapping[str, torch.Tensor] | None = None, *, without_state: str = ""
    ) -> None:
        self.model = model
        self._state = dict(state or {})
        self._without_state = without_state
        self._session: onnxruntime.InferenceSession | None = None

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Graph inputs in order."""
        return self._specs(self.model.graph.inputs, Role.ARGUMENT)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Graph outputs in order."""
        return self._specs(self.model.graph.outputs, Role.OUTPUT)

    @property
    def functions(self) -> tuple[FunctionInfo, ...]:
        """The local functions with the forward or backward of a custom Function, in the model's order."""
        known = {(f["domain"], f["name"], f["overload"]): f for f in self._json(FUNCTIONS, [])}
        uses = self._uses()
        return tuple(
            FunctionInfo(key[0], key[1], f["phase"], f["file"], f["line"], uses.get(key, 0)) for key, f in known.items()
        )

    @property
    def missing_gradients(self) -> tuple[str, ...]:
        """Wanted names for which the custom backward returns no gradient."""
        return tuple(self.provenance.get("missing_gradients", ()))

    @property
    def dropped_updates(self) -> tuple[str, ...]:
        """Names of the buffers that the subject updates and this graph does not update."""
        return tuple(self.provenance.get("dropped_updates", ()))

    @property
    def random(self) -> tuple[RandomSpec, ...]:
        """The random tensors among the inputs."""
        kinds = self.provenance.get("distributions", {})
        return tuple(RandomSpec(s.name, kinds[s.name], s.shape, s.dtype) for s in self.inputs if s.role == Role.RANDOM)

    @property
    def opset(self) -> int:
        """Version of the ai.onnx opset."""
        return int(self.model.opset_imports.get("", 0))

    @property
    def provenance(self) -> dict[str, Any]:
        """The origin of the model: subject, source, versions, static arguments, options."""
        return dict(self._json(PROVENANCE, {}))

    def run(self, *tensors: Given) -> tuple[torch.Tensor, ...]:
        """Runs in ONNX Runtime's CPU provider.

        Args:
            tensors: one for each graph input, in order; for a training step, the state may be omitted. An input may be
                a numpy array, or a number for a tensor without dimensions.

        Raises:
            ProgramError: the number of tensors, a dtype or a shape is wrong, or the runtime fails.
        """
        names = [spec.name for spec in self.inputs]
        known = self._known_inputs()
        needed = [name for name in names if name not in known]
        passed = names if len(tensors) == len(names) else needed
        if len(tensors) != len(passed):
            raise ProgramError(f"The program takes {len(needed)} tensors ({', '.join(needed)}), not {len(tensors)}.")
        return tuple(self.run_named(dict(zip(passed, tensors, strict=True))).values())

    def run_named(self, tensors: Mapping[str, Given]) -> dict[str, torch.Tensor]:
        """Runs in ONNX Runtime's CPU provider.

        Args:
            tensors: one for each graph input, by name; omitted state has its starting value. An input may be a numpy
                array, or a number for a tensor without dimensions.

        Raises:
            ProgramError: a name is missing or unknown, a dtype or a shape is wrong, or the runtime fails.
        """
        if not isinstance(tensors, Mapping):
            raise ProgramError(f"run_named takes a mapping of names to tensors, not {type(tensors).__name__}.")
        defaults = self._defaults()
        given = {name: tensor for name, tensor in self._state.items() if name not in tensors} | dict(tensors)
        specs = tuple(spec for spec in self.inputs if spec.name in given or spec.name not in defaults)
        if self._without_state and any(spec.role == Role.STATE and spec.name not in given for spec in specs):
            raise ProgramError(self._without_state)
        fitting = require_fitting(specs, given)
        return run_session(self.session(), {spec.name: fitting[spec.name] for spec in specs})

    def session(self) -> onnxruntime.InferenceSession:
        """The ONNX Runtime session of `run`, created on first use.

        Raises:
            ProgramError: ONNX Runtime rejects the model.
        """
        if self._session is None:
            self._session = new_session(self.model)
        return self._session

    def state(self) -> dict[str, torch.Tensor]:
        """A copy of the starting value of each state input, by name; empty if the Program is not a training step.

        Raises:
            ProgramError: the model was loaded without its state file; the message names the file.
        """
        if self._without_state:
            raise ProgramError(self._without_state)
        return {name: tensor.clone() for name, tensor in self._state.items()}

    def draw(self, seed: int, **sizes: int) -> tuple[torch.Tensor, ...]:
        """Draws the random tensors among the inputs with `seed`; empty without random inputs.

        The numbers are those of a training bundle: Philox 4x32-10, specified in docs/bundle.md.

        Args:
            seed: of the draws.
            sizes: the size of every dynamic dimension in their shapes.

        Raises:
            CompatibilityError: gradport-runtime, which has the generator, is not installed.
            ProgramError: a dimension's size is missing.
        """
        if not self.random:
            return ()
        with extra(Extra.TRAINING, "Draws of random inputs"):
            from gradport_runtime.draws import Place, draw
        place, tensors = Place(seed), []
        for number, spec in enumerate(self.random):
            shape = [_size_of(dim, sizes, spec) for dim in spec.shape]
            dtype = np.dtype(_DRAWN.get(spec.dtype, "float32"))
            tensors.append(torch.from_numpy(draw(spec.distribution, shape, dtype, number, place)).to(spec.dtype))
        return tuple(tensors)

    def save(self, path: str | os.PathLike[str], *, external_data: bool | None = None) -> None:
        """Writes the model, and for a training step its starting state to `<name>.safetensors` beside it. No
        partial files remain after a failure.

        Args:
            path: the `.onnx` file.
            external_data: whether initializers go to `<name>.onnx.data`; None: above 1 GiB.

        Raises:
            OutputError: a file cannot be written, or would replace a .safetensors file that is not gradport's.
        """
        path = os.fspath(path)
        if self._state:
            require_replaceable(state_file_of(path))
        size = weight(self.model)
        external = size > _EXTERNAL_ABOVE if external_data is None else external_data
        if size > PROTOBUF_LIMIT and not external:
            raise OutputError(
                f"{path} would have {size} bytes of weights, more than protobuf's 2 GiB; "
                "save it with external_data=True."
            )
        folder, base = os.path.split(os.path.abspath(path))
        try:
            with tempfile.TemporaryDirectory(dir=folder, prefix=".gradport-") as scratch:
                ir.save(self.model, os.path.join(scratch, base), external_data=base + ".data" if external else None)
                if self._state:
                    write_state(state_file_of(os.path.join(scratch, base)), self._state)
                for name in sorted(os.listdir(scratch), key=lambda name: name == base):  # the model last
                    os.replace(os.path.join(scratch, name), os.path.join(folder, name))
        except OSError as error:
            raise OutputError(f"{path} cannot be written: {error.strerror or error}.") from error

    def __repr__(self) -> str:
        ins = ", ".join(spec.name for spec in self.inputs)
        outs = ", ".join(spec.name for spec in self.outputs)
        return f"Program({ins} -> {outs})"

    def _specs(self, values: Iterable[ir.Value], role: Role) -> tuple[TensorSpec, ...]:
        known = {entry["name"]: entry for entry in self._json(NAMES, [])}
        return tuple(_spec(value, known.get(value.name, {"role": role, "of": None})) for value in values)

    def _defaults(self) -> set[str]:
        """The optional inputs of a model: they are initializers too."""
        initializers = self.model.graph.initializers
        return {str(value.name) for value in self.model.graph.inputs if value.name in initializers}

    def _known_inputs(self) -> set[str]:
        """The inputs that `run` does not require: state, and inputs with a default."""
        return self._defaults() | {spec.name for spec in self.inputs if spec.role == Role.STATE}

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


_DRAWN = {torch.float16: "float16", torch.float64: "float64"}
"""The dtype that numbers are drawn in; bfloat16 is rounded from float32."""


def _size_of(dim: int | str, sizes: Mapping[str, int], spec: RandomSpec) -> int:
    """The size of a dimension: a number, or the value of an expression of named sizes."""
    if isinstance(dim, int):
        return dim
    try:
        expression = parse(dim)
        size = evaluate(expression, sizes)
    except KeyError:
        missing = ", ".join(name for name in names_in(expression) if name not in sizes)
        raise ProgramError(
            f"{spec.name!r} has the shape {list(spec.shape)}: pass draw() a size for {missing}."
        ) from None
    except (SpecError, ZeroDivisionError) as error:
        reason = f"{spec.name!r} has the shape {list(spec.shape)}, which cannot be computed: {error}"
        raise ProgramError(reason) from None
    if not 0 <= size <= _LARGEST_SIZE:
        raise ProgramError(f"{spec.name!r} would have the size {size} in its shape {list(spec.shape)}.")
    return size


def _spec(value: ir.Value, entry: Mapping[str, Any]) -> TensorSpec:
    if value.dtype is None or isinstance(value.type, (ir.SequenceType, ir.OptionalType)):
        raise ProgramError(f"{value.name!r} is not a tensor, or has no dtype, in this model.")
    shape = tuple(dim if isinstance(dim, int) else str(dim.value) for dim in (value.shape or ()))
    return TensorSpec(str(value.name), to_torch_dtype(value.dtype), shape, Role(entry["role"]), entry["of"])


Given = torch.Tensor | np.ndarray | float
"""The types of an input: a tensor, an array, or a number for a tensor without dimensions."""


def require_fitting(specs: tuple[TensorSpec, ...], given: Mapping[str, Given]) -> dict[str, torch.Tensor]:
    """The given inputs as tensors, after a check of names, dtypes and shapes, including equal dimension names.

    Raises:
        ProgramError: an input is missing, unknown, or has the wrong dtype or shape.
    """
    names = [spec.name for spec in specs]
    missing = [name for name in names if name not in given]
    surplus = [str(name) for name in given if name not in names]
    if missing or surplus:
        parts = [f"{', '.join(missing)} missing"] * bool(missing) + [f"{', '.join(surplus)} unknown"] * bool(surplus)
        raise ProgramError(f"The program takes {', '.join(names)}: {' and '.join(parts)}.")
    sizes: dict[str, int] = {}
    tensors = {}
    for spec in specs:
        tensor = tensors[spec.name] = _as_tensor(spec, given[spec.name])
        fits = tensor.dtype == spec.dtype and tensor.dim() == len(spec.shape)
        for wanted, size in zip(spec.shape, tensor.shape, strict=False):
            expected = sizes.setdefault(wanted, size) if isinstance(wanted, str) and wanted.isidentifier() else wanted
            fits = fits and (expected == size or not isinstance(expected, int))
        if not fits:
            wanted_tensor = _describe_tensor(spec.dtype, spec.shape)
            given_tensor = _describe_tensor(tensor.dtype, tuple(tensor.shape))
            raise ProgramError(f"{spec.name!r} takes {wanted_tensor}, not {given_tensor}.")
    return tensors


def _as_tensor(spec: TensorSpec, given: Given) -> torch.Tensor:
    if isinstance(given, torch.Tensor):
        return given
    if isinstance(given, (np.ndarray, np.generic)):
        with contextlib.suppress(TypeError):
            return torch.as_tensor(given)
    if isinstance(given, (bool, int, float)) and not spec.shape:
        return torch.tensor(given, dtype=spec.dtype)
    raise ProgramError(
        f"{spec.name!r} takes a tensor, {_describe_tensor(spec.dtype, spec.shape)}, not {_describe(given)}."
    )


def _describe(given: Any) -> str:
    if isinstance(given, (list, tuple)) and any(isinstance(one, torch.Tensor) for one in given):
        return f"a {type(given).__name__} of tensors; pass them one by one"
    return f"an array of {given.dtype}" if isinstance(given, np.ndarray) else type(given).__name__


def _describe_tensor(dtype: torch.dtype, shape: tuple[int | str, ...]) -> str:
    return f"{str(dtype).removeprefix('torch.')}[{', '.join(map(str, shape))}]"
