"""`gradport check TARGET INPUT...`: checks a Function's backward."""

from __future__ import annotations

from typing import Annotated

import typer

from gradport.cli.options import (
    Budget,
    Expect,
    Html,
    Inputs,
    Json,
    Loss,
    Profile,
    Rules,
    Seed,
    TimeLimit,
    Wrt,
    factor,
    names,
    parse_expectations,
)
from gradport.cli.page import require_place, write_page
from gradport.cli.session import Session, session
from gradport.cli.target import load_subject
from gradport.errors import SpecError

__all__ = ["check"]


def check(
    target: Annotated[str | None, typer.Argument(help="module:attribute or path/file.py:attribute")] = None,
    inputs: Inputs = None,
    *,
    wrt: Wrt = None,
    loss: Loss = None,
    expect: Expect = None,
    only: Rules = None,
    skip: Rules = None,
    seed: Seed = 0,
    profile: Profile = "default",
    budget: Budget = "1",
    time_limit: TimeLimit = None,
    list_rules: Annotated[bool, typer.Option("--list", help="List the rules and the question of each.")] = False,
    thorough: Annotated[bool, typer.Option("--thorough", help="The same as --profile thorough.")] = False,
    html: Html = None,
    as_json: Json = False,
) -> None:
    """Check the backward of a Function: what it computes, and whether that is accepted."""
    with session("check", as_json) as current:
        if list_rules:
            _list(current)
            return
        if target is None:
            raise SpecError("Give a TARGET to check, or --list to see the rules.")
        work = factor(budget)
        require_place(html)
        subject = load_subject(
            target, inputs or [], loss=loss, seed=seed, wrt=names(wrt), expect=parse_expectations(expect)
        )
        with current.step("importing"):
            from gradport.checking import check as run_check
            from gradport.reporting.terminal import evidence_table
        with current.step(f"checking {subject.name}"):
            evidence = run_check(
                subject,
                only=only or (),
                skip=skip or (),
                seed=seed,
                profile="thorough" if thorough else profile,
                budget=work,
                time_limit=time_limit,
            )
        current.show(evidence_table(f"check {subject.name}", evidence))
        current.result |= {"subject": subject.name, "ok": evidence.ok, "check": evidence.to_dict()}
        write_page(current, html, f"{subject.name}, checked", [(f"gradport check {target}", evidence)])


def _list(current: Session) -> None:
    with current.step("importing"):
        from gradport.checking import RULES
        from gradport.reporting.terminal import rules_table
    questions = {rule.name: rule.question for rule in RULES.values()}
    current.show(rules_table(questions))
    current.result |= {"rules": questions}
