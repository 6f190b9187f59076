"""`gradport export-step TARGET INPUT...`: exports a whole training step as one graph, proved step after step."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gradport.cli.export import file_stem, save
from gradport.cli.export_training import Clip, Optimizer, Targets, TrainingLoss
from gradport.cli.options import Functions, Inputs, Json, NoFallback, Opset, Out, Outputs, Random, Seed, Target, names
from gradport.cli.session import require_writable, session
from gradport.cli.training import load_trained_subject, make_optimizer

__all__ = ["export_step"]


def export_step(
    target: Target,
    inputs: Inputs = None,
    *,
    optimizer: Optimizer = "AdamW",
    loss: TrainingLoss = None,
    targets: Targets = None,
    outputs: Outputs = None,
    clip_grad_norm: Clip = None,
    accumulate: Annotated[int, typer.Option(help="How many runs add up their gradients before a step.")] = 1,
    functions: Functions = "keep",
    no_fallback: NoFallback = False,
    random: Random = "input",
    opset: Opset = None,
    seed: Seed = 0,
    out: Out = Path("gradport-out"),
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Write the file without the proof.")] = False,
    as_json: Json = False,
) -> None:
    """Export a whole training step as one ONNX file, its state beside it."""
    with session("export-step", as_json) as current:
        require_writable(out)
        with current.step("importing"):
            from gradport.exporting.export_step import export_step as run_export
            from gradport.reporting.terminal import interface_table
        subject = load_trained_subject(target, inputs, targets, loss, seed=seed, outputs=names(outputs))
        with current.step(f"exporting {subject.name}"):
            program = run_export(
                subject,
                optimizer=make_optimizer(optimizer, subject),
                clip_grad_norm=clip_grad_norm,
                accumulate=accumulate,
                functions=functions,
                fallback=not no_fallback,
                random=random,
                opset_version=opset,
                verify=not no_verify,
            )
        current.show(interface_table(program))
        current.result |= {"subject": subject.name}
        save(current, program, out / f"{file_stem(subject.name)}.step.onnx")
