"""Suite of a campaign: which wrong Functions gradport.check, torch's gradcheck and opcheck find.

    gradport campaign bench/checkers.py

The Functions are those of test/checking/corpus. gradcheck runs in float64 with its defaults. opcheck wants an operator:
each Function is wrapped as a `torch.library.custom_op` whose backward is the author's, where its arguments and results
are plain tensors. A checker that flags a Function is "failed"; "skipped" is a Function that it cannot be asked about.
"""

from __future__ import annotations

import functools
import pathlib
import sys
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "test" / "checking"))

import torch
from corpus import heldout, right, wrong

import gradport

GROUPS = {
    "wrong": wrong.WRONG,
    "right": right.RIGHT,
    "wrong, held out": heldout.WRONG,
    "right, held out": heldout.RIGHT,
}


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


CHECKERS = {"gradport": ours, "gradcheck": gradcheck, "opcheck": opcheck}


def asked(checker: str, group: str, name: str) -> gradport.Evidence | None:
    """Fails where the checker flags the Function; skipped where it cannot be asked."""
    torch.manual_seed(0)
    try:
        verdict = CHECKERS[checker](GROUPS[group][name])
    except NotApplicable:
        return gradport.Evidence(name, (gradport.Finding(checker, checker, "skipped", message="cannot be asked"),))
    assert verdict == "passes", f"{checker} flags it"
    return None


TASKS = [
    gradport.Task(f"{group}: {name}", functools.partial(asked, checker, group, name), column=checker)
    for group, entries in GROUPS.items()
    for name in entries
    for checker in CHECKERS
]
