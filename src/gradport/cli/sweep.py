"""`gradport sweep TARGET INPUT...`: export and verify under many settings, as a matrix."""

from __future__ import annotations

from gradport.cli.export import with_gradients
from gradport.cli.options import (
    Budget,
    Columns,
    Dtypes,
    Forms,
    Html,
    Inputs,
    Json,
    Loss,
    Opsets,
    Outputs,
    Random,
    Seed,
    Shapes,
    Target,
    TimeLimit,
    Wrt,
    factor,
    names,
    parse_axes,
)
from gradport.cli.page import require_place, write_page
from gradport.cli.session import session
from gradport.cli.target import load_subject

__all__ = ["sweep"]


def sweep(
    target: Target,
    inputs: Inputs = None,
    *,
    wrt: Wrt = None,
    loss: Loss = None,
    outputs: Outputs = None,
    opsets: Opsets = None,
    dtypes: Dtypes = None,
    functions: Forms = None,
    shapes: Shapes = None,
    runtimes: Columns = None,
    random: Random = "input",
    seed: Seed = 0,
    budget: Budget = "1",
    time_limit: TimeLimit = None,
    html: Html = None,
    as_json: Json = False,
) -> None:
    """Export and verify a Function under many settings; show the outcomes as a matrix."""
    with session("sweep", as_json) as current:
        axes = parse_axes(opsets, dtypes, functions, shapes, runtimes)
        require_place(html)
        subject = load_subject(target, inputs or [], loss=loss, seed=seed, outputs=names(outputs))
        with current.step("importing"):
            from gradport.campaigning.sweep import sweep as run_sweep
            from gradport.reporting.terminal import sweep_table
        subject = with_gradients(subject, wrt)
        with current.step(f"sweeping {subject.name}"):
            evidence = run_sweep(
                subject,
                **axes,
                random=random,
                seed=seed,
                budget=factor(budget),
                time_limit=time_limit,
                progress=current.progress,
            )
        current.show(sweep_table(f"sweep {subject.name}", evidence))
        current.result |= {"subject": subject.name, "ok": evidence.ok, "sweep": evidence.to_dict()}
        write_page(current, html, f"{subject.name} under every setting", [(f"gradport sweep {target}", evidence)])
