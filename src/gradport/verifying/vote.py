"""Who is wrong? Everybody who can compute a result is asked, and judged by the distance to the float64 run.

Eager, torch.compile, ONNX Runtime at each of its optimization levels, the reference evaluator and every other runtime
that is installed have a voice; those that share kernels (a family) have one together, and it is wrong when any of them
is. Eager and torch.compile run the user's code, the others the exported graph.
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
"""Elements above which torch.compile is not asked."""


@dataclasses.dataclass(frozen=True)
class Voice:
    """One answer.

    Attributes:
        name, family: whose.
        right: whether it agrees with the oracle.
        distance: in ULPs of the scale.
    """

    name: str
    family: str
    right: bool
    distance: float


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What the vote says.

    Attributes:
        culprit: "the exported graph", "eager", a family of runtimes, or None where nobody can say.
        voices: everybody who was asked.
        sentence: it as a person would say it.
    """

    culprit: str | None
    voices: tuple[Voice, ...]
    sentence: str


class Jury:
    """Everybody's answers to one case.

    Args:
        verification: whose model and Subject; beside its runtimes all others on this machine are asked.
        case: the inputs.
        compiled: whether torch.compile has a voice; it takes seconds.
    """

    def __init__(self, verification: Verification, case: InputSet, *, compiled: bool) -> None:
        self._answer = verification.answer(case)
        self._oracle = self._answer.oracle() or {}
        self._heard = list(_answers(verification, self._answer))
        small = sum(tensor.numel() for tensor in case.tensors.values()) <= _COMPILED
        if compiled and small:
            self._heard += _compile(verification, case, self._answer)

    def verdict(self, result: str) -> Verdict:
        """What they say of one result."""
        truth = self._oracle.get(result)
        voices = [_eager(self._answer, result, truth)]
        voices += [_voice(name, family, found, self._answer, result, truth) for name, family, found in self._heard]
        return _count_votes(tuple(voices), truth is not None)


def _answers(verification: Verification, answer: Reference) -> Iterator[tuple[str, str, dict[str, torch.Tensor]]]:
    """What each runtime on this machine gives, those that the Verification was not asked for too."""
    for row, runner in verification.everybody():
        with contextlib.suppress(ProgramError):  # who gives nothing has no voice
            yield row.name, row.family, verification.results(runner, answer)


def _voice(
    name: str,
    family: str,
    found: Mapping[str, torch.Tensor],
    answer: Reference,
    result: str,
    truth: torch.Tensor | None,
) -> Voice:
    comparison = _judge(found[result], answer, result, truth)
    return Voice(name, family, comparison.ok, comparison.ulps)


def _eager(answer: Reference, result: str, truth: torch.Tensor | None) -> Voice:
    """Eager is right unless nan and infinities stand elsewhere than in float64."""
    value = answer.expected[result]
    if truth is None or not value.is_floating_point():
        return Voice("eager", "eager", True, 0.0)
    want = truth.to(value.dtype)
    comparison = compare(value, want, lambda: want.double(), narrowest=answer.narrowest)
    overflow = bool((~value.isfinite() & truth.isfinite()).any())
    return Voice("eager", "eager", not (comparison.special or overflow), comparison.ulps)


def _judge(found: torch.Tensor, answer: Reference, result: str, truth: torch.Tensor | None) -> Comparison:
    """Whoever agrees with eager or with float64 is right, where they are not the same."""
    value = answer.expected[result]
    beside_eager = compare(
        found, value, lambda: truth, spread=lambda: answer.spread().get(result), narrowest=answer.narrowest
    )
    if beside_eager.ok or truth is None or not value.is_floating_point():
        return beside_eager
    want = truth.to(value.dtype)
    beside_truth = compare(found, want, lambda: truth, narrowest=answer.narrowest)
    return beside_truth if beside_truth.ok else beside_eager


def _compile(
    verification: Verification, case: InputSet, answer: Reference
) -> Iterator[tuple[str, str, dict[str, torch.Tensor]]]:
    """torch.compile on the same Joint; where it fails it has no voice."""
    try:
        with quiet(), restore_validation():
            found = verification.through(lambda target: torch.compile(target, dynamic=False)).answer(case).expected
    except Exception:  # whatever a compiler may raise
        return
    finally:
        torch.compiler.reset()
    if found.keys() == answer.expected.keys():
        yield "torch.compile", "torch.compile", found


_WHO = {
    None: "the votes do not show who is wrong",
    "eager": "all runtimes agree with float64 and eager PyTorch differs from it",
    "the exported graph": "all runtimes agree with each other and differ from PyTorch: the ONNX file is wrong",
}


def _count_votes(voices: tuple[Voice, ...], known_truth: bool) -> Verdict:
    """One vote for each family of runtimes; the ONNX file is wrong where all of them differ from PyTorch."""
    families: dict[str, bool] = {}
    for voice in voices:
        families[voice.family] = families.get(voice.family, True) and voice.right
    graph = {family: right for family, right in families.items() if family not in _CODE}
    wrong = [family for family, right in families.items() if not right]
    said = ", ".join(f"{v.name} {'agrees' if v.right else 'differs'} ({v.distance:.3g} ULPs)" for v in voices)
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
    return Verdict(culprit, voices, f"Beside {basis}: {said}; {who}.")
