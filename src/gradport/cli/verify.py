"""`gradport verify FILE.onnx --against TARGET INPUT...`: compares an ONNX file with eager torch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from gradport.cli.options import (
    Atol,
    Budget,
    Html,
    Inputs,
    Json,
    Loss,
    Out,
    Outputs,
    Rtol,
    Rules,
    Runtimes,
    Seed,
    Sizes,
    TimeLimit,
    Wrt,
    factor,
    names,
    sizes_of,
    split_list,
)
from gradport.cli.page import require_place, write_page
from gradport.cli.session import session
from gradport.cli.target import load_subject

__all__ = ["verify"]


def verify(
    file: Annotated[str, typer.Argument(metavar="FILE.onnx", help="The model.", show_default=False)],
    inputs: Inputs = None,
    *,
    against: Annotated[str, typer.Option(help="The TARGET to compare with.", show_default=False)],
    wrt: Wrt = None,
    loss: Loss = None,
    outputs: Outputs = None,
    sizes: Sizes = None,
    only: Rules = None,
    skip: Rules = None,
    seed: Seed = 0,
    budget: Budget = "1",
    time_limit: TimeLimit = None,
    rtol: Rtol = None,
    atol: Atol = None,
    runtimes: Runtimes = None,
    out: Out = Path("gradport-out"),
    html: Html = None,
    as_json: Json = False,
) -> None:
    """Compare an ONNX model with eager torch, outputs and gradients; on failure, write a reproducer."""
    with session("verify", as_json) as current:
        work, wanted = factor(budget), sizes_of(sizes)
        require_place(html)
        subject = load_subject(against, inputs or [], loss=loss, seed=seed, wrt=names(wrt), outputs=names(outputs))
        with current.step("importing"):
            from gradport.reporting.terminal import evidence_table
            from gradport.verifying import verify as run_verify
        with current.step(f"verifying {file}"):
            evidence = run_verify(
                file,
                subject,
                sizes=wanted,
                budget=work,
                time_limit=time_limit,
                seed=seed,
                rtol=rtol,
                atol=atol,
                runtimes=split_list(runtimes) or None,
                reproducer=out / f"{Path(file).stem}.reproducer",
            )
        current.show(evidence_table(f"verify {file} on {len(evidence.series['cases'])} inputs", evidence))
        if "reproducer" in evidence.series:
            current.say(f"wrote {evidence.series['reproducer']}: run python repro.py there to see the difference")
        current.result |= {"subject": subject.name, "ok": evidence.ok, "verify": evidence.to_dict()}
        title = f"{Path(file).name} against {subject.name}"
        model = os.path.relpath(file, html.parent) if html is not None else ""
        write_page(current, html, title, [(f"gradport verify {file} --against {against}", evidence)], model=model)
