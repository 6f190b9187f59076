"""A Verification: one model and one Subject, run on case after case in every runtime; what was worst stays."""

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
"""Families of runtimes that are asked about every case however large the model is."""


@dataclasses.dataclass(frozen=True)
class Worst:
    """The worst comparison of one result in one runtime, and the case that shows it."""

    comparison: Comparison
    case: InputSet


class Verification:
    """Runs case after case and keeps the worst of each result.

    Attributes:
        program, joint: what is held against what.
        rows: the runtimes.
        runners: a runner for each, or why there is none.
        cases: what was tried, in order.
        edge_count: how many of them hold edge values.
        matched: which tensor is which; None before the first case.
        roles: of each result.
        plain: the worst of the plain cases, by runtime and result.
        edge: of the cases with edge values, those that differ and the worst of the others, by the kind of case, runtime
            and result.
        broken: the runtimes that failed on the example, and why.
        stumbled: what a runtime failed on later, and why.
        large: whether a run is so much work that slow runtimes are asked about the example alone.
        shares: by result, the largest share of elements where float64 stands further off than rounding.
        branches: the largest share of the elements of discrete operators where float64 decides otherwise; None where
            the Subject calls none that can be seen.
        finite: the results of which some case had a finite element.
        random: what eager's random numbers go through; None: fresh draws.
        divergence: how far each node's value departs, where a node was looked for.
        reproducer: the folder of a reproducer that was written, or "".
        runs_in_float64: whether the Subject runs in float64; None where that was not asked.
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
        self._everybody: list[tuple[Runtime, Runner]] | None = None

    def run(self, case: InputSet) -> None:
        """One case in every runtime; what eager itself rejects is none, unless it is the example.

        Raises:
            TargetError: eager rejects the example.
            SpecError: the model and the Subject do not match.
        """
        found = answer_case(case, self.answer)
        if found is None:
            return
        case, answer = found
        if self.matched is not None and answer.feeds.keys() != self.matched.inputs.keys():
            return  # eager draws other random numbers here: none for an empty tensor
        self.cases.append(case.what)
        self.edge_count += case.edge
        self._learn(case, answer)
        for name in self.working():
            self._run_in(name, case, answer)

    def working(self) -> list[str]:
        """The runtimes that are still asked."""
        return [
            name
            for name, runner in self.runners.items()
            if not isinstance(runner, ProgramError)
            and name not in self.broken
            and not (self.is_slow(name) and len(self.cases) > 1)
        ]

    def is_slow(self, name: str) -> bool:
        """Whether a runtime is asked about the example alone."""
        return self.large and self.rows[name].family not in _FAST

    def answer(self, case: InputSet) -> Reference:
        """Eager's answer; cotangents and random numbers are those of the case, however often it is asked.

        Raises:
            TargetError: eager rejects these inputs.
        """
        generator = torch.Generator().manual_seed(self.seed + case.seed)
        return reference(self.joint, case.tensors, generator, self.random, self._grain, case.cotangent)

    def with_program(self, program: Program) -> Verification:
        """A Verification of another model of the same Subject in the same runtimes, on which nothing was run yet."""
        return Verification(
            program, self.joint, list(self.rows.values()), **self._tolerances, random=self.random, seed=self.seed
        )

    def through(self, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Verification:
        """The same with the Subject's code called through `wrap`."""
        twin = copy.copy(self)
        twin.joint = self.joint.wrap_target(wrap)
        return twin

    def everybody(self) -> list[tuple[Runtime, Runner]]:
        """Every runtime on this machine that takes the model, those that were not chosen too."""
        if self._everybody is None:
            rows = {row.name: row for row in known_runtimes().values() if row.absent() is None}
            made = runners(self.program, [row for row in rows.values() if row.name not in self.runners])
            made |= {name: runner for name, runner in self.runners.items() if name not in self.broken}
            self._everybody = [
                (rows[name], runner)
                for name, runner in made.items()
                if name in rows and not isinstance(runner, ProgramError)
            ]
        return self._everybody

    def feeds(self, answer: Reference) -> dict[str, torch.Tensor]:
        """What goes in, under the model's names."""
        assert self.matched is not None
        return {theirs: answer.feeds[ours] for ours, theirs in self.matched.inputs.items()}

    def results(self, runner: Runner, answer: Reference) -> dict[str, torch.Tensor]:
        """What a runtime gives, under the Subject's names.

        Raises:
            ProgramError: it fails.
        """
        assert self.matched is not None
        # copies: a runtime that writes into what it is given spoils no other's inputs
        found = runner({name: tensor.clone() for name, tensor in self.feeds(answer).items()})
        missing = [theirs for theirs in self.matched.outputs.values() if theirs not in found]
        if missing:
            raise ProgramError(f"It gives no {missing[0]!r}, which is an output of the model.")
        return {ours: found[theirs] for ours, theirs in self.matched.outputs.items()}

    def compare_results(self, answer: Reference, results: Mapping[str, torch.Tensor]) -> dict[str, Comparison]:
        """Every result against eager's, by gradport's criterion or the tolerances that were given."""
        return compare_results(answer, results, **self._tolerances)

    def failing(self, runtime: str, result: str, case: InputSet) -> Comparison | None:
        """How one result departs from eager on a case, or None where it does not, or where the case is none."""
        runner = self.runners[runtime]
        assert not isinstance(runner, ProgramError)
        try:
            answer = self.answer(case)
            comparison = self.compare_results(answer, self.results(runner, answer))[result]
        except (TargetError, ProgramError):
            return None
        return None if comparison.ok else comparison

    def _learn(self, case: InputSet, answer: Reference) -> None:
        """What a case says whatever the runtime."""
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
            found = self._differing_branches(case, answer)
            self.branches = found if self.branches is None else max(self.branches, found or 0.0)

    def _differing_branches(self, case: InputSet, answer: Reference) -> float | None:
        """The share of discrete decisions that float64 takes otherwise."""
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

    def _keep(self, runtime: str, result: str, found: Worst) -> None:
        if found.case.edge:
            standing = self.edge.setdefault((found.case.kind, runtime, result), [])
            if not found.comparison.ok or not standing:
                standing.append(found)
            elif standing[0].comparison.ok and _badness(found.comparison) > _badness(standing[0].comparison):
                standing[0] = found
            return
        worst = self.plain.get((runtime, result))
        if worst is None or _badness(found.comparison) > _badness(worst.comparison):
            self.plain[runtime, result] = found


def _badness(comparison: Comparison) -> tuple[bool, bool, float]:
    """Wrong numbers are worse than nan in the wrong place, which a runtime alone may be to blame for."""
    size = comparison.ulps
    return not comparison.ok, not comparison.ok and not comparison.special, float("inf") if size != size else size
