"""Who finds what: gradport.check beside torch's gradcheck and opcheck, on the Functions of test/checking/corpus.

    python bench/checkers.py [--markdown]

gradcheck runs in float64 with its defaults. opcheck wants an operator: each Function is wrapped as a
`torch.library.custom_op` whose backward is the author's, where its arguments and results are plain tensors. A checker
flags a Function when it raises; "n/a" is where it cannot be asked.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import pathlib
import sys
import time
import warnings
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "test" / "checking" / "corpus"))

import heldout
import right
import torch
import wrong

import gradport

CHECKERS = ("gradport", "gradcheck", "opcheck")


def main() -> int:
    """Prints a line for each Function and the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--markdown", action="store_true", help="print the counts as a table for the README")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.ERROR)
    groups = {
        "wrong": wrong.WRONG,
        "right": right.RIGHT,
        "wrong, held out": heldout.WRONG,
        "right, held out": heldout.RIGHT,
    }
    counts: dict[tuple[str, str, str], int] = {}
    for group, entries in groups.items():
        for name, entry in entries.items():
            started = time.monotonic()
            verdicts = {checker: asked(checker, entry) for checker in CHECKERS}
            for checker, verdict in verdicts.items():
                counts[group, checker, verdict] = counts.get((group, checker, verdict), 0) + 1
            row = "  ".join(f"{checker}={verdict}" for checker, verdict in verdicts.items())
            print(f"{group:16} {name:48} {time.monotonic() - started:5.1f}s  {row}", flush=True)
    report(groups, counts, options.markdown)
    return 0


def report(groups: dict[str, Any], counts: dict[tuple[str, str, str], int], markdown: bool) -> None:
    """For each group and checker how many were flagged, of how many it could be asked."""
    rows = []
    for group, entries in groups.items():
        cells = []
        for checker in CHECKERS:
            flagged = counts.get((group, checker, "flags"), 0)
            cells.append(f"{flagged} of {len(entries) - counts.get((group, checker, 'n/a'), 0)}")
        rows.append((f"{group} ({len(entries)})", *cells))
    print()
    if markdown:
        print(f"| flagged | {' | '.join(CHECKERS)} |\n| --- | --- | --- | --- |")
    for row in rows:
        print(f"| {' | '.join(row)} |" if markdown else "  ".join(f"{cell:24}" for cell in row))


def asked(checker: str, entry: Any) -> str:
    """flags, passes or n/a."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            torch.manual_seed(0)
            return {"gradport": ours, "gradcheck": gradcheck, "opcheck": opcheck}[checker](entry)
        except NotApplicable:
            return "n/a"


class NotApplicable(Exception):
    """The checker cannot be asked."""


def ours(entry: Any) -> str:
    """gradport.check, with what is declared of a right one."""
    evidence = gradport.check(entry.function, entry.args, expect=getattr(entry, "expect", None))
    return "passes" if evidence.ok else "flags"


def gradcheck(entry: Any) -> str:
    """torch.autograd.gradcheck with its defaults."""
    args = tuple(
        value.detach().double().requires_grad_()
        if isinstance(value, torch.Tensor) and value.is_floating_point()
        else value
        for value in entry.args
    )
    try:
        torch.autograd.gradcheck(lambda *given: entry.function.apply(*(_own(value) for value in given)), args)
    except Exception:
        return "flags"
    return "passes"


def opcheck(entry: Any) -> str:
    """torch.library.opcheck of the Function as a custom operator, its backward the author's."""
    function, args = entry.function, entry.args
    if not all(isinstance(value, torch.Tensor) for value in args):
        raise NotApplicable
    sample = function.apply(*(_own(value) for value in args))
    if not isinstance(sample, torch.Tensor):
        raise NotApplicable
    names = [f"a{at}" for at in range(len(args))]

    def forward(*given: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return function.apply(*given).clone()

    def backward(ctx: Any, g: torch.Tensor) -> Any:
        leaves = [value.detach().requires_grad_(value.is_floating_point()) for value in ctx.saved_tensors]
        with torch.enable_grad():
            result = function.apply(*(_own(leaf) for leaf in leaves))
        wanted = [leaf for leaf in leaves if leaf.requires_grad]
        found = iter(torch.autograd.grad(result, wanted, g, allow_unused=True))
        return tuple(next(found) if leaf.requires_grad else None for leaf in leaves)

    schema = f"({', '.join(f'Tensor {name}' for name in names)}) -> Tensor"
    library = torch.library.Library("gradport_bench", "FRAGMENT")
    label = f"{function.__name__}_{id(entry)}"
    library.define(f"{label}{schema}")
    library.impl(label, forward, "CompositeExplicitAutograd")
    torch.library.register_fake(f"gradport_bench::{label}", forward)
    torch.library.register_autograd(
        f"gradport_bench::{label}",
        backward,
        setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
    )
    operator = getattr(torch.ops.gradport_bench, label).default
    given = tuple(value.detach().clone().requires_grad_(value.is_floating_point()) for value in args)
    try:
        torch.library.opcheck(operator, given)
    except Exception:
        return "flags"
    return "passes"


def _own(value: Any) -> Any:
    """A non-leaf, so that a Function may write into it."""
    return value * 1 if isinstance(value, torch.Tensor) and value.is_floating_point() else value


if __name__ == "__main__":
    sys.exit(main())
