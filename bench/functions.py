"""Suite of a campaign: public Functions, forward and backward, beside `torch.onnx.export`.

    pip install --no-deps -r bench/requirements.txt
    gradport campaign bench/functions.py

Each column is a way: `forward` without gradients; `keep`, `inline` and `opaque` with them, at batches 1, 2, 7 and the
example's; `static` as `keep` with a fixed batch. A file is right when every output and gradient agrees with eager on
fresh inputs and cotangents in ONNX Runtime (and for gradport in the reference evaluator), by gradport.verify.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import onnx_ir as ir
import torch
from cases import CASES, Case

import gradport

SIZES = {"batch": (1, 2, 7)}


def ours(case: Case, *, functions: str, wrt: str | None, dynamic: bool = True) -> gradport.Evidence:
    """gradport's file held against eager."""
    function, args = case.function(), case.arguments()
    shapes = case.dynamic_shapes(args) if dynamic else None
    program = gradport.export(function, args, wrt=wrt, functions=functions, dynamic_shapes=shapes)
    return gradport.verify(
        program, function, case.arguments(seed=1), dynamic_shapes=shapes, sizes=SIZES if dynamic else None
    )


def theirs(case: Case, *, gradient: bool, dynamic: bool) -> gradport.Evidence:
    """`torch.onnx.export` of the call, with `torch.autograd.grad` written inside forward for the gradient."""
    function, args = case.function(), case.arguments()
    subject = gradport.Subject(function, args, wrt="inputs" if gradient else None)
    module = Written(function, args, gradient)
    example = module.example()
    shapes = case.dynamic_shapes(args) if dynamic else None
    module_shapes = module.shapes(shapes) if shapes else None
    program = torch.onnx.export(
        module, example, dynamo=True, dynamic_shapes=(module_shapes,) if module_shapes else None, verbose=False
    )
    assert program is not None
    model: ir.Model = program.model
    return gradport.verify(
        model, subject, dynamic_shapes=shapes, sizes=SIZES if dynamic else None, runtimes=["onnxruntime"]
    )


class Written(torch.nn.Module):
    """A Function's call as people write it for the exporter: tensors in, outputs and gradients out."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], gradient: bool) -> None:
        super().__init__()
        self._function = function
        self._args = args
        self._at = [index for index, value in enumerate(args) if isinstance(value, torch.Tensor)]
        self._wanted = [at for at, index in enumerate(self._at) if args[index].requires_grad]
        self._gradient = gradient

    def example(self) -> tuple[torch.Tensor, ...]:
        """The tensors, then a cotangent for each differentiable output."""
        tensors = tuple(self._args[index].detach() for index in self._at)
        return (*tensors, *(torch.ones_like(out) for out in self._seeded())) if self._gradient else tensors

    def shapes(self, shapes: tuple[Any, ...]) -> tuple[Any, ...]:
        """torch.export's form; a cotangent's axes are those whose size follows the batch."""
        listed = [{a: torch.export.Dim.DYNAMIC for a in shapes[index]} if shapes[index] else None for index in self._at]
        if self._gradient:
            batch = next(self._args[i].shape[next(iter(axes))] for i, axes in enumerate(shapes) if axes)
            for out in self._seeded():
                axes = [axis for axis, size in enumerate(out.shape) if size == batch][:1]
                listed.append({axis: torch.export.Dim.DYNAMIC for axis in axes} or None)
        return tuple(listed)

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Outputs, then gradients."""
        tensors, cotangents = tensors[: len(self._at)], tensors[len(self._at) :]
        leaves = [
            tensor.detach().requires_grad_() if at in self._wanted and self._gradient else tensor
            for at, tensor in enumerate(tensors)
        ]
        outputs = self._outputs(leaves)
        if not self._gradient:
            return tuple(outputs)
        seeded = [out for out in outputs if out.requires_grad]
        wanted = [leaves[at] for at in self._wanted]
        gradients = torch.autograd.grad(seeded, wanted, list(cotangents), allow_unused=True)
        return (*outputs, *(gradient for gradient in gradients if gradient is not None))

    def _outputs(self, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        args = list(self._args)
        for index, tensor in zip(self._at, tensors, strict=True):
            args[index] = tensor
        result = self._function(*args)
        results = result if isinstance(result, (tuple, list)) else (result,)
        return [out for out in results if isinstance(out, torch.Tensor)]

    def _seeded(self) -> list[torch.Tensor]:
        leaves = [self._args[index].detach().clone() for index in self._at]
        for at in self._wanted:
            leaves[at].requires_grad_()
        return [out.detach() for out in self._outputs(leaves) if out.requires_grad and out.is_floating_point()]


WAYS: dict[str, Callable[[Case], gradport.Evidence]] = {
    "forward": lambda case: ours(case, functions="keep", wrt=None),
    "keep": lambda case: ours(case, functions="keep", wrt="inputs"),
    "inline": lambda case: ours(case, functions="inline", wrt="inputs"),
    "opaque": lambda case: ours(case, functions="opaque", wrt="inputs"),
    "static": lambda case: ours(case, functions="keep", wrt="inputs", dynamic=False),
    "torch.onnx forward static": lambda case: theirs(case, gradient=False, dynamic=False),
    "torch.onnx static": lambda case: theirs(case, gradient=True, dynamic=False),
    "torch.onnx forward": lambda case: theirs(case, gradient=False, dynamic=True),
    "torch.onnx": lambda case: theirs(case, gradient=True, dynamic=True),
}


def judged(case: Case, way: str) -> gradport.Evidence:
    """The Evidence of a way; whatever an exporter raises is a refusal."""
    try:
        return WAYS[way](case)
    except gradport.Error:
        raise
    except Exception as error:
        text = re.sub(r"(\(?)\S*/site-packages/", r"\1", " ".join(str(error).split()))
        raise gradport.ExportError(re.sub(r" at 0x[0-9a-f]+", "", text)[:400]) from error


TASKS = [gradport.Task(case.id, functools.partial(judged, case, way), column=way) for case in CASES for way in WAYS]
