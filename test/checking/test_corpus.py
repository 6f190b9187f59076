"""Forty right Functions have no failed Finding; forty-odd wrong ones are flagged by the rule that names the cause."""

import pytest

import gradport

from .corpus import heldout
from .corpus.right import RIGHT
from .corpus.wrong import WRONG

pytestmark = pytest.mark.corpus


def failed(evidence):
    return {f.rule for f in evidence.findings if f.outcome not in ("ok", "skipped")}


def test_the_corpus_is_as_large_as_it_says():
    assert len(RIGHT) >= 40
    assert len(WRONG) >= 40


LONG = ("shapes", "edge-values", "kinks")
"""Rules that take most of the time; the Functions written after the rules are asked them here, the others in
test-slow."""


@pytest.mark.parametrize("name", RIGHT)
def test_no_right_one_fails(name):
    entry = RIGHT[name]
    evidence = gradport.check(entry.function, entry.args, expect=entry.expect, skip=LONG)
    assert not failed(evidence), [f.message for f in evidence.findings if f.outcome == "failed"]


@pytest.mark.slow
@pytest.mark.parametrize("name", RIGHT)
def test_no_right_one_fails_any_rule(name):
    entry = RIGHT[name]
    evidence = gradport.check(entry.function, entry.args, expect=entry.expect)
    assert not failed(evidence), [f.message for f in evidence.findings if f.outcome == "failed"]


@pytest.mark.parametrize("name", WRONG)
def test_every_wrong_one_is_flagged_by_the_rule_that_names_its_cause(name):
    entry = WRONG[name]
    evidence = gradport.check(entry.function, entry.args, only=(entry.rule,))
    assert entry.rule in failed(evidence), [(f.key, f.outcome) for f in evidence.findings]


@pytest.mark.slow
@pytest.mark.parametrize("name", WRONG)
def test_every_wrong_one_is_flagged_among_all_rules(name):
    entry = WRONG[name]
    evidence = gradport.check(entry.function, entry.args)
    assert entry.rule in failed(evidence), [(f.key, f.outcome) for f in evidence.findings]


@pytest.mark.parametrize("name", heldout.RIGHT)
def test_no_right_one_of_those_written_after_the_rules_fails(name):
    entry = heldout.RIGHT[name]
    assert not failed(gradport.check(entry.function, entry.args, expect=entry.expect))


@pytest.mark.parametrize("name", heldout.WRONG)
def test_every_wrong_one_of_those_written_after_the_rules_is_flagged(name):
    entry = heldout.WRONG[name]
    assert entry.rule in failed(gradport.check(entry.function, entry.args, only=(entry.rule,)))


@pytest.mark.slow
@pytest.mark.parametrize("name", heldout.WRONG)
def test_every_wrong_one_of_those_written_after_the_rules_is_flagged_among_all_rules(name):
    entry = heldout.WRONG[name]
    assert entry.rule in failed(gradport.check(entry.function, entry.args))
