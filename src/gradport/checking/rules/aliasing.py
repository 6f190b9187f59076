"""Aliasing and mutation: forward and backward must not change tensors without autograd's knowledge.

Source: https://docs.pytorch.org/docs/stable/notes/extending.html (mark_dirty; never modify a cotangent in place)
"""

from __future__ import annotations

from collections.abc import Iterator

from gradport.checking.probes.judging import judge, note
from gradport.checking.probes.trial import Trial
from gradport.checking.probes.watch import Watched, watch_call
from gradport.checking.table import Topic, rule
from gradport.evidence.evidence import Finding

__all__ = ["aliasing"]


@rule(Topic.CONTRACT, "aliasing", "Does forward or backward change a tensor that it does not own?", alongside=True)
def aliasing(trial: Trial) -> Iterator[Finding]:
    """Yields one Finding for each kind of change of each Function."""
    _, log = watch_call(trial, trial.inputs[0])
    for one in log:
        problems = list(_problems(one))
        for about, message in problems:
            yield judge(trial, "aliasing", f"{one.name} {about}", False, message, kind=about)
        if not problems:
            yield judge(trial, "aliasing", one.name, True, f"{one.name} does not change tensors of others.")
        for at in one.views:
            message = f"Output {at} of {one.name} shares memory with an argument: a write into one shows in the other."
            yield note(trial, "aliasing", f"{one.name} view", message, kind="view")


def _problems(one: Watched) -> Iterator[tuple[str, str]]:
    for at in one.changed_inputs:
        yield (
            "input",
            f"The forward of {one.name} changes argument {at} in place without ctx.mark_dirty: other code that reads "
            "it gets wrong values; clone it first, or mark it dirty and return it.",
        )
    for at in one.changed_cotangents:
        yield (
            "cotangent",
            f"The backward of {one.name} changes cotangent {at} in place: autograd may pass the same tensor to another "
            "branch, whose gradient is then wrong; clone it first.",
        )
    for at in one.changed_saved:
        yield (
            "saved",
            f"The backward of {one.name} changes saved tensor {at} in place: a second backward through the same graph "
            "gives another gradient; clone it first.",
        )
    for name in one.changed_kept:
        yield (
            "kept",
            f"The backward of {one.name} changes {name} in place: a second backward through the same graph gives "
            "another gradient; clone it first.",
        )
