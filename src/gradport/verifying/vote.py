"""Determines who is wrong: every installed runtime computes the result, and the float64 run judges it.

Eager, torch.compile, ONNX Runtime at each optimization level, the reference evaluator and every other installed runtime
vote. Runtimes that share kernels (a family) have one vote, which is wrong if any of them is wrong. Eager and
torch.compile run the user's code; all others run the exported graph.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping

import torch

from gradport.compat.quiet import quiet
from gradport.compat.torch.tracing import restore_validation
from gradport.errors import ProgramError
from gradport.evidence.tolerance import Comparison, compare
from gradport.proving.answers import InputSet, Reference
from gradport.verifying.verification import Verification

__all__ = ["Jury", "Verdict", "Voice"]

_CODE = ("eager", "torch.compile")
"""The families that run the user's code."""

_COMPILED = 1 << 16
"""Number of elements above which torch.compile does not vote."""


@dataclasses.dataclass(frozen=True)
class Voice:
    """The vote of one runtime.

    Attributes:
        name, family: of the runtime.
        right: whether it agrees with the float64 run, or with eager.
        distance: in ULPs of the scale.
    """

    name: str
    family: str
    right: bool
    distance: float


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The result of the vote.

    Attributes:
        culprit: "the exported graph", "eager", families of runtimes, or None if undecided.
        voices: all votes.
        sentence: a description for people.
    """

    culprit: str | None
    voices: tuple[Voice, ...]
    sentence: str


class Jury:
    """The results of all runtimes on one case.

    Args:
        verification: the model and the Subject; all installed runtimes vote, also those that were not chosen.
        case: the inputs.
        compiled: whether torch.compile votes, which takes seconds.
    """

    def __init__(self, verification: Verification, case: InputSet, *, compiled: bool) -> None:
        self._answer = verification.answer(case)
        self._oracle = self._answer.oracle() or {}
        self._results = list(_answers(verification, self._answer))
        small = sum(tensor.numel() for tensor in case.tensors.values()) <= _COMPILED
        if compiled and small:
            self._results += _run_compiled(verification, case, self._answer)

    def verdict(self, result: str) -> Verdict:
        """The verdict on one result."""
        truth = self._oracle.get(result)
        voices = [_eager_vote(self._answer, result, truth)]
        voices += [_vote(name, family, values, self._answer, result, truth) for name, family, values in self._results]
        return _count_votes(tuple(voices), truth is not None)


def _answers(verification: Verification, answer: Reference) -> Iterator[tuple[str, str, dict[str, torch.Tensor]]]:
    """The results of each installed runtime, also of those that were not chosen."""
    for row, runner in verification.all_runners():
        with contextlib.suppress(ProgramError):  # a runtime that fails does not vote
            yield row.name, row.family, verification.results(runner, answer)


def _vote(
    name: str,
    family: str,
    values: Mapping[str, torch.Tensor],
    answer: Reference,
    result: str,
    truth: torch.Tensor | None,
) -> Voice:
    comparison = _judge(values[result], answer, result, truth)
    return Voice(name, family, comparison.ok, comparison.ulps)


def _eager_vote(answer: Reference, result: str, truth: torch.Tensor | None) -> Voice:
    """The vote of eager, which is right unless its nan and infinities differ from those of float64."""
    value = answer.expected[result]
    if truth is None or not value.is_floating_point():
        return Voice("eager", "eager", True, 0.0)
    want = truth.to(value.dtype)
    comparison = compare(value, want, lambda: want.double(), narrowest=answer.narrowest)
    overflow = bool((~value.isfinite() & truth.isfinite()).any())
    return Voice("eager", "eager", not (comparison.special or overflow), comparison.ulps)


def _judge(got: torch.Tensor, answer: Reference, result: str, truth: torch.Tensor | None) -> Comparison:
    """Compares a result with eager, and if it differs with float64; agreement with either is right."""
    value = answer.expected[result]
    beside_eager = compare(
        got, value, lambda: truth, spread=lambda: answer.spread().get(result), narrowest=answer.narrowest
    )
    if beside_eager.ok or truth is None or not value.is_floating_point():
        return beside_eager
    want = truth.to(value.dtype)
    beside_truth = compare(got, want, lambda: truth, narrowest=answer.narrowest)
    return beside_truth if beside_truth.ok else beside_eager


def _run_compiled(
    verification: Verification, case: InputSet, answer: Reference
) -> Iterator[tuple[str, str, dict[str, torch.Tensor]]]:
    """The results of torch.compile on the same Joint; empty if it fails."""
    try:
        with quiet(), restore_validation():
            results = (
                verification.wrap_subject(lambda target: torch.compile(target, dynamic=False)).answer(case).expected
            )
    except Exception:  # a compiler may raise any exception
        return
    finally:
        torch.compiler.reset()
    if results.keys() == answer.expected.keys():
        yield "torch.compile", "torch.compile", results


_WHO = {
    None: "the votes do not show who is wrong",
    "eager": "all runtimes agree with float64 and eager PyTorch differs from it",
    "the exported graph": "all runtimes agree with each other and differ from PyTorch: the ONNX file is wrong",
}


def _count_votes(voices: tuple[Voice, ...], known_truth: bool) -> Verdict:
    """Counts one vote for each family of runtimes; the ONNX file is wrong if all of them differ from PyTorch."""
    families: dict[str, bool] = {}
    for voice in voices:
        families[voice.family] = families.get(voice.family, True) and voice.right
    graph = {family: right for family, right in families.items() if family not in _CODE}
    wrong = [family for family, right in families.items() if not right]
    votes = ", ".join(f"{v.name} {'agrees' if v.right else 'differs'} ({v.distance:.3g} ULPs)" for v in voices)
    basis = "float64" if known_truth else "eager, which does not run in float64"
    culprit: str | None = None
    if not families.get("eager", True) and all(graph.values()) and graph:
        culprit = "eager"
    elif graph and not any(graph.values()) and len(graph) > 1:
        culprit = "the exported graph"
    elif len(wrong) == 1 and wrong[0] in graph and len(graph) > 1:
        culprit = wrong[0]
    elif wrong and all(family in graph for family in wrong) and sum(graph.values()) > len(wrong):
        culprit = " and ".join(wrong)
    who = _WHO.get(culprit, f"{culprit} differs from all others")
    return Verdict(culprit, voices, f"Compared with {basis}: {votes}; {who}.")
