"""Suite of a campaign: loss and gradients of whole models, beside torch.onnx.export on the same cases.

    gradport campaign bench/models.py

Each model is exported with a dynamic batch (`functions="inline"`) and then verified in ONNX Runtime at batches 1, 2 and
5, at every opset. torch.onnx.export gets a module that calls `torch.autograd.grad` inside its forward, with a static
batch; its file is held to the same criterion.
"""

from __future__ import annotations

import functools
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from model_cases import MODELS, Model, loss_of

import gradport

BATCH = 3

OPSETS = (18, 25)


def subject_of(model: Model, dynamic: bool) -> gradport.Subject:
    """The model with its loss, fresh inputs and batch."""
    torch.manual_seed(0)
    module = model.build().train(model.train)
    args = model.inputs(torch.Generator().manual_seed(1), BATCH)
    return gradport.Subject(
        module,
        args,
        wrt=model.wrt,
        loss=lambda result: loss_of(model, result),
        dynamic_shapes=tuple({0: "batch"} for _ in args) if dynamic else None,
        inputs=lambda generator, sizes: (model.inputs(generator, sizes.get("batch", BATCH)), {}, ()),
    )


def ours(model: Model, opset: int) -> gradport.Evidence:
    """gradport's file, verified."""
    subject = subject_of(model, dynamic=True)
    program = gradport.export(subject, functions="inline", opset_version=opset)
    assert {node.domain for node in program.model.graph.all_nodes()} == {""}
    return gradport.verify(program, subject, sizes={"batch": (1, 2, 5)}, runtimes=["onnxruntime"])


def theirs(model: Model) -> gradport.Evidence:
    """torch.onnx's file of a module that asks for its gradients, verified; whatever it raises is a refusal."""
    subject = subject_of(model, dynamic=False)
    module = subject.target
    written = Written(model, module)
    try:
        program = torch.onnx.export(written, subject.args, dynamo=True, verbose=False)
    except Exception as error:
        raise gradport.ExportError(" ".join(str(error).split())[:300]) from error
    assert program is not None
    asked = gradport.Subject(written, subject.args, inputs=subject.inputs)
    return gradport.verify(program.model, asked, runtimes=["onnxruntime"])


class Written(torch.nn.Module):
    """A model that gives its loss and gradients in its forward."""

    def __init__(self, model: Model, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module
        self._model = model

    def forward(self, *args: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with torch.enable_grad():
            if self._model.wrt == "inputs":
                args = tuple(arg.detach().requires_grad_() if arg.is_floating_point() else arg for arg in args)
                wanted = [arg for arg in args if arg.requires_grad]
            else:
                wanted = list(self.module.parameters())
            loss = loss_of(self._model, self.module(*args))
            gradients = torch.autograd.grad(loss, wanted, allow_unused=True)
        return (loss.detach(), *(gradient for gradient in gradients if gradient is not None))


TASKS = [
    gradport.Task(model.id, functools.partial(ours, model, opset), column=f"gradport opset {opset}")
    for model in MODELS
    for opset in OPSETS
] + [gradport.Task(model.id, functools.partial(theirs, model), column="torch.onnx") for model in MODELS]
