"""`gradport export-training TARGET INPUT...`: exports a training as a folder, and trains it beside torch first."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gradport.cli.export import file_stem
from gradport.cli.options import Functions, Inputs, Json, NoFallback, Opset, Out, Random, Seed, Target
from gradport.cli.session import require_writable, session
from gradport.cli.training import load_metrics, load_trained_subject, make_optimizer, make_scheduler

__all__ = ["Clip", "Optimizer", "Targets", "TrainingLoss", "export_training"]

Optimizer = Annotated[str, typer.Option(help="An optimizer of torch.optim: AdamW:lr=1e-3,weight_decay=0.1.")]
TrainingLoss = Annotated[
    str | None,
    typer.Option("--loss", help="A function of torch.nn.functional, module:attribute, or the name of a scalar output."),
]
Targets = Annotated[
    list[str] | None,
    typer.Option("--target", help="A target of the loss, as INPUT; without a name it is `target`.", metavar="INPUT"),
]
Clip = Annotated[float | None, typer.Option("--clip-grad-norm", help="Limit of the norm of all gradients together.")]


def export_training(
    target: Target,
    inputs: Inputs = None,
    *,
    optimizer: Optimizer = "AdamW",
    loss: TrainingLoss = None,
    targets: Targets = None,
    train: Annotated[
        list[str] | None,
        typer.Option(help="Of an ONNX file: the initializers that train, as names or patterns: 'classifier.*'."),
    ] = None,
    metric: Annotated[list[str] | None, typer.Option(help="accuracy, or NAME=module:attribute.")] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="A scheduler of torch.optim.lr_scheduler: LinearLR:total_iters=10.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="How many steps of the scheduler are recorded.")] = None,
    frozen: Annotated[str | None, typer.Option(help="How frozen weights are stored: float16, int8 or int4.")] = None,
    loss_scale: Annotated[str | None, typer.Option(help="A number, or dynamic.")] = None,
    clip_grad_norm: Clip = None,
    functions: Functions = "keep",
    no_fallback: NoFallback = False,
    random: Random = "input",
    opset: Opset = None,
    seed: Seed = 0,
    out: Out = Path("gradport-out"),
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Write the bundle without the proof.")] = False,
    as_json: Json = False,
) -> None:
    """Export a training as a folder that trains on stock ONNX Runtime."""
    with session("export-training", as_json) as current:
        require_writable(out)
        with current.step("importing"):
            from gradport.training import export_training as run_export
        subject = load_trained_subject(target, inputs, targets, loss, seed=seed, train=train)
        made = make_optimizer(optimizer, subject)
        with current.step(f"exporting {subject.name}"):
            training = run_export(
                subject,
                optimizer=made,
                loss=subject.loss,
                metrics=load_metrics(metric),
                scheduler=make_scheduler(scheduler, made),
                steps=steps,
                frozen=frozen,
                loss_scale=_scale_of(loss_scale),
                clip_grad_norm=clip_grad_norm,
                functions=functions,
                fallback=not no_fallback,
                random=random,
                opset_version=opset,
                verify=not no_verify,
                progress=current.progress,
            )
        folder = out / file_stem(subject.name)
        training.save(folder)
        weights = sum(tensor.numel() for tensor in training.state().values())
        current.say(f"wrote {folder}: {len(training.state())} state tensors with {weights:,} numbers")
        current.result |= {
            "subject": subject.name,
            "files": [str(folder)],
            "inputs": training.manifest["models"]["gradients"]["inputs"],
            "metrics": training.manifest["metrics"],
        }


def _scale_of(text: str | None) -> float | str | None:
    try:
        return text if text is None else float(text)
    except ValueError:
        return text
