"""export_training: a Subject and an optimizer to a bundle, proved step by step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from gradport.compat.torch.exporter import default_opset
from gradport.eager.dimensions import resolve_dimensions
from gradport.eager.halves import Apply, Evaluate, Gradients, Metric
from gradport.eager.inputs import with_example
from gradport.eager.joint import Joint
from gradport.eager.labels import predict_without_labels
from gradport.eager.loss_scale import parse_loss_scale
from gradport.eager.step import require_clip
from gradport.errors import SpecError
from gradport.exporting.export import export_joint
from gradport.lowering.passes.aliasing import WriteInPlace
from gradport.lowering.passes.packed_weights import UnpackWeights
from gradport.lowering.passes.rows import ScanRows
from gradport.lowering.passes.shared_weights import ShareWeights
from gradport.model.program import Program
from gradport.subject.given import Arguments, Forms, Keywords, Loss, Shapes, Target, Targets
from gradport.subject.subject import as_subject
from gradport.training.bundle import Training
from gradport.training.inference import as_inference
from gradport.training.manifest import build_manifest, successors
from gradport.training.packing import pack_frozen, parse_frozen, require_opset, use_unpacked
from gradport.training.proof import prove_training
from gradport.training.schedules import record_schedule

__all__ = ["export_training"]


def export_training(
    subject: Target,
    args: Arguments = (),
    kwargs: Keywords = None,
    *,
    optimizer: torch.optim.Optimizer,
    loss: Loss,
    targets: Targets = (),
    metrics: Mapping[str, Metric] | None = None,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
    steps: int | None = None,
    frozen: str | None = None,
    loss_scale: float | str | None = None,
    clip_grad_norm: float | None = None,
    functions: Forms = "keep",
    fallback: bool = True,
    dynamic_shapes: Shapes = None,
    opset_version: int | None = None,
    input_names: Sequence[str] | Mapping[str, str] | None = None,
    output_names: Sequence[str] | Mapping[str, str] | None = None,
    random: str = "input",
    finite_math: bool = False,
    verify: bool = True,
    progress: Callable[[str], None] = lambda part: None,
) -> Training:
    """Exports a training as a bundle: a folder that trains on stock ONNX Runtime, without torch.

    Args:
        subject, args, kwargs, loss, targets, functions, fallback, dynamic_shapes, opset_version, input_names, random,
            finite_math: as for `export`.
        optimizer: an instance of a `torch.optim` class on the module's parameters, as for `export_step`.
        metrics: `f(result, *targets)` giving a scalar, by name; given with the loss in training and in evaluation.
        scheduler: a `torch.optim.lr_scheduler` on the optimizer; its learning rates are recorded.
        steps: how many steps of the scheduler are recorded; after them the last value stays.
        frozen: how weights of Linear and Embedding modules that do not train are stored: None, "float16", "int8" or
            "int4" (symmetric, blocks of 32, float32 scales; opset 21 or later). The comparison with torch uses the
            weights that the stored ones stand for.
        loss_scale: a number by which the loss is multiplied before the backward pass, or "dynamic": it adapts, and a
            step whose gradients hold inf or nan changes only the scale. For training in float16.
        clip_grad_norm: limit of the norm of all gradients together; acts on accumulated gradients.
        output_names: names of the predictions, as for `export`.
        verify: whether the bundle is trained for five steps beside torch before it is handed out.
        progress: told the name of each part before it is exported.

    Returns:
        The Training; `save` writes it. Gradients are those of the module's present mode; evaluation and prediction run
        in eval mode. Prediction is called without labels: keyword arguments that only the loss in the outputs needs.

    Raises:
        ExportError: a part cannot be exported, or departs from torch.
        SpecError: an option does not fit, the optimizer or the scheduler cannot be exported.
        TargetError: the subject rejects its own example.
    """
    described = as_subject(subject, args, kwargs, loss=loss, targets=targets, dynamic_shapes=dynamic_shapes)
    require_clip(clip_grad_norm)
    schedule = record_schedule(optimizer, scheduler, steps)
    gradients = Gradients(with_example(described), optimizer, _require_metrics(metrics), parse_loss_scale(loss_scale))
    apply = Apply(gradients, clip_grad_norm)
    evaluate, predict = Evaluate(gradients, metrics), predict_without_labels(gradients)
    form = parse_frozen(frozen)
    packed = pack_frozen(gradients, form)
    use_unpacked((gradients, evaluate, predict), packed)
    options: dict[str, Any] = {
        "functions": functions,
        "fallback": fallback,
        "opset_version": require_opset(form, opset_version, default_opset()),
        "random": random,
        "finite_math": finite_math,
    }

    def export_half(name: str, half: Joint, *, verify: bool) -> Program:
        progress(name)
        names: dict[str, Any] = {
            "input_names": None if name == "apply" else _of(half, input_names),
            "output_names": output_names if name == "predict" else None,
        }
        return export_joint(half, **options, **names, verify=verify)

    programs = {
        "gradients": export_half("gradients", gradients, verify=verify),
        "apply": export_half("apply", apply, verify=False),
        "evaluate": export_half("evaluate", evaluate, verify=verify),
        "predict": export_half("predict", predict, verify=verify),
    }
    for program in programs.values():
        UnpackWeights(packed)(program.model)
    next_names = {old: new for old, new in successors(programs["apply"])}
    ScanRows([[next_names[slot.name] for slot in update] for update in apply.updates_in_rows])(programs["apply"].model)
    WriteInPlace(list(next_names.items()))(programs["apply"].model)
    inference, data = as_inference(programs["predict"])
    for name in ("gradients", "evaluate", "predict"):
        ShareWeights()(programs[name].model)
    state = programs["gradients"].state() | _in_torchs_shapes(programs["apply"].state(), apply)
    manifest = build_manifest(programs, state, schedule, data, described.name, skips=loss_scale == "dynamic")
    training = Training(programs, inference, manifest, state)
    if verify:
        progress("proof")
        dimensions = resolve_dimensions(gradients, gradients.subject.dynamic_shapes)
        prove_training(training, gradients, apply, evaluate, predict, dimensions)
    return training


def _in_torchs_shapes(state: Mapping[str, torch.Tensor], apply: Apply) -> dict[str, torch.Tensor]:
    """State of the optimizer's step, which has rows, in the shapes of parameters and of the optimizer in torch."""
    shapes = {slot.name: tensor.shape for slot, tensor in apply.whole_state().items()}
    return {name: tensor.reshape(shapes[name]) for name, tensor in state.items()}


def _require_metrics(metrics: Mapping[str, Metric] | None) -> dict[str, Metric]:
    for name, metric in (metrics or {}).items():
        if not (isinstance(name, str) and name and callable(metric)):
            raise SpecError(f"metrics[{name!r}] is not a function; give f(result, *targets) by name.")
        if name == "loss":
            raise SpecError("metrics has 'loss', which is the name of the loss; take another name.")
    return dict(metrics or {})


def _of(half: Joint, names: Sequence[str] | Mapping[str, str] | None) -> Any:
    """The input names for a half that has fewer inputs: a mapping without those that it does not take."""
    if not isinstance(names, Mapping):
        return names
    own = {argument.name for argument in (*half.arguments, *half.targets)}
    return {name: new for name, new in names.items() if name in own}
