"""What counts as agreeing with eager: a floor in ULPs, then float64, then how far eager goes from itself."""

import torch

from gradport.evidence.tolerance import compare

EAGER = torch.linspace(-1, 1, 64)


def held(actual, *, eager=EAGER, oracle=None, spread=None, **options):
    wide = eager.double() if oracle is None else oracle
    return compare(actual, eager, lambda: wide, spread=None if spread is None else lambda: spread, **options).ok


def test_a_few_ulps_agree_and_a_thousandth_does_not():
    assert held(EAGER * (1 + 4e-7))
    assert not held(EAGER * 1.001)


def test_where_eager_goes_as_far_from_itself_an_error_is_its_own():
    other_branch = EAGER.double() * 1.1  # float64 took another way
    spread = (EAGER * 1e-3).abs()
    assert held(EAGER * 1.001, oracle=other_branch, spread=spread)
    assert not held(EAGER * 1.02, oracle=other_branch, spread=spread)


def test_one_element_that_tips_over_does_not_excuse_the_others():
    other_branch = EAGER.double() + 1.0
    spread = torch.zeros(64)
    spread[0] = 0.1
    assert not held(EAGER + 0.5, oracle=other_branch, spread=spread)


def test_what_cancels_to_rounding_need_not_agree_in_its_digits():
    rounding, nothing = EAGER * 1e-12, torch.zeros(64, dtype=torch.float64)
    assert held(rounding.flip(0), eager=rounding, oracle=nothing, ambient=1.0)
    assert not held(rounding.flip(0) * 1e3, eager=rounding, oracle=nothing, ambient=1.0)
    assert not held(rounding.flip(0), eager=rounding, oracle=nothing, ambient=1e-9)
