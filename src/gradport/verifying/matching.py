"""Matches the inputs and outputs of a model with those of the Subject: by name if all match, else by position."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch

from gradport.errors import SpecError
from gradport.model.program import Program, TensorSpec
from gradport.subject.spec import short_dtype

__all__ = ["Match", "match"]


@dataclasses.dataclass(frozen=True)
class Match:
    """The model's names for the Subject's names, and how they were matched.

    Attributes:
        inputs, outputs: from the Subject's name to the model's name.
        how: "by name" or "by position".
    """

    inputs: dict[str, str]
    outputs: dict[str, str]
    how: str


def match(program: Program, inputs: Mapping[str, torch.Tensor], outputs: Mapping[str, torch.Tensor]) -> Match:
    """Matches a model's inputs and outputs with those of eager.

    Raises:
        SpecError: they match neither by name nor by position; the message lists both.
    """
    own_inputs, own_outputs = program.inputs, program.outputs
    by_name = {spec.name for spec in own_inputs} == set(inputs) and {spec.name for spec in own_outputs} == set(outputs)
    if by_name:
        return Match({spec.name: spec.name for spec in own_inputs}, {name: name for name in outputs}, "by name")
    if _agree(own_inputs, inputs) and _agree(own_outputs, outputs):
        return Match(
            dict(zip(inputs, (spec.name for spec in own_inputs), strict=True)),
            dict(zip(outputs, (spec.name for spec in own_outputs), strict=True)),
            "by position",
        )
    raise SpecError(
        "The model and the subject match neither by name nor by position. "
        f"The model takes {_list_nodes(own_inputs)} and gives {_list_nodes(own_outputs)}; "
        f"the subject takes {_describe(inputs)} and gives {_describe(outputs)}."
    )


def _agree(specs: Sequence[TensorSpec], tensors: Mapping[str, torch.Tensor]) -> bool:
    return len(specs) == len(tensors) and all(
        spec.dtype == tensor.dtype and len(spec.shape) == tensor.dim()
        for spec, tensor in zip(specs, tensors.values(), strict=True)
    )


def _list_nodes(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{s.name}: {short_dtype(s.dtype)}[{','.join(map(str, s.shape))}]" for s in specs) or "nothing"


def _describe(tensors: Mapping[str, torch.Tensor]) -> str:
    return (
        ", ".join(f"{n}: {short_dtype(t.dtype)}[{','.join(map(str, t.shape))}]" for n, t in tensors.items())
        or "nothing"
    )
