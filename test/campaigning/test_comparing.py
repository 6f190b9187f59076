"""Differences between two campaigns."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradport.campaigning.cases import CaseOutcome, Options, Result
from gradport.campaigning.comparing import compare_rows
from gradport.campaigning.store import Store

from .test_store import planned


def rows(*results):
    with Store(None) as store:
        for number, result in enumerate(results):
            if result is not None:
                store.add(planned(number), result, Options())
        return store.rows()


def ok(seconds=1.0):
    return Result(CaseOutcome.OK, processor_seconds=seconds)


FAILED = Result(CaseOutcome.FAILED, message="wrong")
REFUSED = Result(CaseOutcome.REFUSED, message="no")


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        (ok(), FAILED, "broken"),
        (FAILED, ok(), "repaired"),
        (FAILED, REFUSED, "changed"),
        (None, ok(), "new"),
        (ok(), None, "gone"),
        (ok(), ok(), None),
        (FAILED, FAILED, None),
        (ok(1.0), ok(9.0), "slower"),
        (ok(9.0), ok(1.0), "faster"),
        (ok(0.01), ok(0.09), None),  # too short to tell
        (ok(1.0), ok(1.3), None),
    ],
)
def test_kinds(before, after, kind):
    same = [ok()] * 5
    found = compare_rows(rows(*same, before), rows(*same, after))
    assert [one.kind for one in found] == ([] if kind is None else [kind])


def test_a_slower_machine_makes_no_case_slower():
    before = [ok(1.0 + 0.1 * number) for number in range(10)]
    after = [dataclasses.replace(one, processor_seconds=one.processor_seconds * 3) for one in before]
    assert compare_rows(rows(*before), rows(*after)) == ()


def test_noise_of_all_cases_is_not_slower():
    before = [ok(1.0)] * 10
    after = [ok(seconds) for seconds in (0.4, 2.5, 0.5, 2.0, 0.6, 1.7, 0.9, 1.1, 0.5, 2.2)]
    assert compare_rows(rows(*before), rows(*after)) == ()


@given(st.lists(st.sampled_from([None, ok(), FAILED, REFUSED]), min_size=1, max_size=8), st.data())
def test_backwards_is_the_opposite(before, data):
    after = data.draw(st.permutations(before))
    opposite = {"broken": "repaired", "repaired": "broken", "new": "gone", "gone": "new", "changed": "changed"}
    forth, back = compare_rows(rows(*before), rows(*after)), compare_rows(rows(*after), rows(*before))
    assert {(one.subject, opposite[one.kind]) for one in forth} == {(one.subject, str(one.kind)) for one in back}
