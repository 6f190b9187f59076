"""A Verification: runs one model and one Subject on each case in every runtime, and keeps the worst comparisons."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from gradport.eager.branches import Branches, differing_share
from gradport.eager.joint import Joint, cast
from gradport.eager.randomness import Randomness
from gradport.eager.run import run_eager
from gradport.errors import ProgramError, TargetError
from gradport.evidence.tolerance import Comparison, branch_share
from gradport.model.program import Program
from gradport.proving.answers import (
    InputKind,
    InputSet,
    Reference,
    ambient_of,
    answer_case,
    compare_results,
    grain_of,
    reference,
)
from gradport.runtimes.ort import NoKernel
from gradport.runtimes.table import Runner, Runtime, known_runtimes, runners
from gradport.subject.ports import Role
from gradport.verifying.matching import Match, match

__all__ = ["Verification", "Worst"]

_FAST = ("onnxruntime", "onnxruntime-cuda")
"""Families of runtimes that run every case, regardless of the size of the model."""


@dataclasses.dataclass(frozen=True)
class Worst:
    """The worst comparison of one result in one runtime, and the case that shows it."""

    comparison: Comparison
    case: InputSet


class Verification:
    """Runs each case and keeps the worst comparison of each result.

    Attributes:
        program, joint: the model, and the Subject that it is compared with.
        rows: the runtimes by name.
        runners: a runner for each runtime, or the error why there is none.
        cases: the cases that ran, in order.
        edge_count: the number of cases with edge values.
        matched: the matching of inputs and outputs; None before the first case.
        roles: the role of each result.
        plain: the worst comparison of the plain cases, by runtime and result.
        edge: for the cases with edge values, the comparisons that differ, or else the worst one, by kind of case,
            runtime and result.
        broken: the runtimes that failed on the example, with the error.
        stumbled: the other cases on which a runtime failed, with the error.
        large: whether the model is so large that slow runtimes run only the example.
        shares: by result, the largest share of elements where float64 differs by more than rounding.
        branches: the largest share of elements of discrete operators where float64 takes another branch; None if the
            Subject calls no observable discrete operator.
        finite: the results with a finite element in some case.
        random: the source of eager's random numbers; None: new draws.
        divergence: the distance of each node's value, if the first wrong node was searched for.
        reproducer: the folder of the reproducer, or "".
        runs_in_float64: whether the Subject runs in float64; None if unknown.
    """

    def __init__(
        self,
        program: Program,
        joint: Joint,
        rows: Sequence[Runtime],
        *,
        rtol: float | None = None,
        atol: float | None = None,
        random: Callable[[], Randomness] | None = None,
        seed: int = 0,
    ) -> None:
        self.program = program
        self.joint = joint
        self.rows = {row.name: row for row in rows}
        self.runners = runners(program, rows)
        self.cases: list[str] = []
        self.edge_count = 0
        self.matched: Match | None = None
        self.roles: dict[str, Role] = {}
        self.plain: dict[tuple[str, str], Worst] = {}
        self.edge: dict[tuple[InputKind, str, str], list[Worst]] = {}
        self.broken: dict[str, ProgramError] = {}
        self.stumbled: dict[str, list[tuple[ProgramError, InputSet]]] = {}
        self.large = False
        self.shares: dict[str, float] = {}
        self.branches: float | None = None
        self.finite: set[str] = set()
        self.runs_in_float64: bool | None = None
        self.divergence: tuple[dict[str, object], ...] = ()
        self.reproducer = ""
        self.seed = seed
        self.given = rtol is not None or atol is not None
        self._tolerances = {"rtol": rtol, "atol": atol}
        self.random = random
        self._grain = grain_of(program)
        self._all_runners: list[tuple[Runtime, Runner]] | None = None

    def run(self, case: InputSet) -> None:
        """Runs one case in every runtime; a case that eager rejects is ignored unless it is the example.

        Raises:
            TargetError: eager rejects the example.
            SpecError: the model and the Subject do not match.
        """
        answered = answer_case(case, self.answer)
        if answered is None:
            return
        case, answer = answered
        if self.matched is not None and answer.feeds.keys() != self.matched.inputs.keys():
            return  # eager draws different random tensors here: none for an empty tensor
        self.cases.append(case.what)
        self.edge_count += case.edge
        self._record_facts(case, answer)
        for name in self.working_runtimes():
            self._run_in(name, case, answer)

    def working_runtimes(self) -> list[str]:
        """The runtimes that still run cases."""
        return [
            name
            for name, runner in self.runners.items()
            if not isinstance(runner, ProgramError)
            and name not in self.broken
            and not (self.is_slow(name) and len(self.cases) > 1)
        ]

    def is_slow(self, name: str) -> bool:
        """Whether a runtime runs only the example."""
        return self.large and self.rows[name].family not in _FAST

    def answer(self, case: InputSet) -> Reference:
        """Eager's answer; the same case always has the same cotangents and random numbers.

        Raises:
            TargetError: eager rejects these inputs.
        """
        generator = torch.Generator().manual_seed(self.seed + case.seed)
        return reference(self.joint, case.tensors, generator, self.random, self._grain, case.cotangent)

    def with_program(self, program: Program) -> Verification:
        """A new Verification of another model of the same Subject in the same runtimes, without results."""
        return Verification(
            program, self.joint, list(self.rows.values()), **self._tolerances, random=self.random, seed=self.seed
        )

    def wrap_subject(self, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Verification:
        """A copy whose Subject is called through `wrap`."""
        twin = copy.copy(self)
        twin.joint = self.joint.wrap_target(wrap)
        return twin

    def all_runners(self) -> list[tuple[Runtime, Runner]]:
        """All installed runtimes that accept the model, also those that were not chosen."""
        if self._all_runners is None:
            rows = {row.name: row for row in known_runtimes().values() if row.absent() is None}
            runnable = runners(self.program, [row for row in rows.values() if row.name not in self.runners])
            runnable |= {name: runner for name, runner in self.runners.items() if name not in self.broken}
            self._all_runners = [
                (rows[name], runner)
                for name, runner in runnable.items()
                if name in rows and not isinstance(runner, ProgramError)
            ]
        return self._all_runners

    def feeds(self, answer: Reference) -> dict[str, torch.Tensor]:
        """The inputs under the model's names."""
        assert self.matched is not None
        return {theirs: answer.feeds[ours] for ours, theirs in self.matched.inputs.items()}

    def results(self, runner: Runner, answer: Reference) -> dict[str, torch.Tensor]:
        """The results of a runtime under the Subject's names.

        Raises:
            ProgramError: the runtime fails.
        """
        assert self.matched is not None
        # copies, because a runtime may write into its inputs
        outputs = runner({name: tensor.clone() for name, tensor in self.feeds(answer).items()})
        missing = [theirs for theirs in self.matched.outputs.values() if theirs not in outputs]
        if missing:
            raise ProgramError(f"The runtime does not return {missing[0]!r}, which is an output of the model.")
        return {ours: outputs[theirs] for ours, theirs in self.matched.outputs.items()}

    def compare_results(self, answer: Reference, results: Mapping[str, torch.Tensor]) -> dict[str, Comparison]:
        """Compares every result with eager, by gradport's criterion or by the user's tolerances."""
        return compare_results(answer, results, **self._tolerances)

    def find_difference(self, runtime: str, result: str, case: InputSet) -> Comparison | None:
        """The comparison of one result on a case if it differs from eager; None if it agrees or the case fails."""
        runner = self.runners[runtime]
        assert not isinstance(runner, ProgramError)
        try:
            answer = self.answer(case)
            comparison = self.compare_results(answer, self.results(runner, answer))[result]
        except (TargetError, ProgramError):
            return None
        return None if comparison.ok else comparison

    def _record_facts(self, case: InputSet, answer: Reference) -> None:
        """Records facts of a case that do not depend on a runtime."""
        if self.matched is None:
            self.matched = match(self.program, answer.feeds, answer.expected)
            self.roles = answer.roles
        self.finite |= {name for name, value in answer.expected.items() if bool(value.isfinite().any())}
        self.finite |= {name for name, value in answer.expected.items() if not value.numel() and len(self.cases) == 1}
        if case.edge or self.given or answer.narrowest in (None, torch.float64):
            return
        oracle = answer.oracle()
        self.runs_in_float64 = oracle is not None if self.runs_in_float64 is None else self.runs_in_float64
        ambient = ambient_of(answer)
        for name, value in answer.expected.items():
            if oracle is not None and name in oracle and value.is_floating_point():
                share = branch_share(value, oracle[name], grain=self._grain, ambient=ambient)
                self.shares[name] = max(self.shares.get(name, 0.0), share)
        if any(self.shares.values()):
            share_here = self._differing_branches(case, answer)
            self.branches = share_here if self.branches is None else max(self.branches, share_here or 0.0)

    def _differing_branches(self, case: InputSet, answer: Reference) -> float | None:
        """The share of discrete decisions that differ in float64."""
        seen = []
        for tensors in (case.tensors, cast(case.tensors, torch.float64)):
            with Branches() as watched:
                run_eager(self.joint, tensors, answer.again.cotangent, answer.again.random)
            seen.append(watched)
        return differing_share(*seen)

    def _run_in(self, name: str, case: InputSet, answer: Reference) -> None:
        runner = self.runners[name]
        assert not isinstance(runner, ProgramError)
        try:
            results = self.results(runner, answer)
        except ProgramError as error:
            if len(self.cases) == 1 or isinstance(error, NoKernel):
                self.broken[name] = error
            else:
                self.stumbled.setdefault(name, []).append((error, case))
            return
        for result, comparison in self.compare_results(answer, results).items():
            self._keep(name, result, Worst(comparison, case))

    def _keep(self, runtime: str, result: str, new: Worst) -> None:
        if new.case.edge:
            kept = self.edge.setdefault((new.case.kind, runtime, result), [])
            if not new.comparison.ok or not kept:
                kept.append(new)
            elif kept[0].comparison.ok and _badness(new.comparison) > _badness(kept[0].comparison):
                kept[0] = new
            return
        worst = self.plain.get((runtime, result))
        if worst is None or _badness(new.comparison) > _badness(worst.comparison):
            self.plain[runtime, result] = new


def _badness(comparison: Comparison) -> tuple[bool, bool, float]:
    """A sort key: wrong numbers are worse than a misplaced nan, which may be the fault of only one runtime."""
    size = comparison.ulps
    return not comparison.ok, not comparison.ok and not comparison.special, float("inf") if size != size else size
