"""Random numbers that every language draws alike."""

import numpy as np
import pytest
from gradport_runtime.draws import Place, draw, philox
from hypothesis import given
from hypothesis import strategies as st

VECTORS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]
"""Of the Random123 library: philox4x32, ten rounds."""


@pytest.mark.parametrize(("counter", "key", "expected"), VECTORS)
def test_philox_gives_the_vectors_of_its_authors(counter, key, expected):
    assert philox(np.array([counter], np.uint32), key)[0].tolist() == list(expected)


@given(
    st.sampled_from(["uniform", "normal"]),
    st.sampled_from([np.float16, np.float32, np.float64]),
    st.integers(0, 2**64 - 1),
    st.integers(0, 9),
    st.integers(0, 40),
)
def test_a_draw_is_a_function_of_its_place(distribution, dtype, seed, number, count):
    place = Place(seed, step=3, micro_batch=1, rank=2)
    drawn = draw(distribution, (count,), np.dtype(dtype), number, place)
    assert drawn.dtype == dtype and np.isfinite(drawn).all()
    assert np.array_equal(drawn, draw(distribution, (count,), np.dtype(dtype), number, place))
    assert np.array_equal(drawn[: count // 2], draw(distribution, (count // 2,), np.dtype(dtype), number, place))
    if distribution == "uniform" and dtype != np.float16:  # float16 may round up to 1
        assert ((drawn >= 0) & (drawn < 1)).all()


@pytest.mark.parametrize(("distribution", "mean", "variance"), [("uniform", 0.5, 1 / 12), ("normal", 0, 1)])
def test_draws_have_their_distribution(distribution, mean, variance):
    drawn = draw(distribution, (100_000,), np.dtype(np.float32), 0, Place(7))
    assert abs(drawn.mean() - mean) < 0.01 and abs(drawn.var() - variance) < 0.01


def test_places_draw_other_numbers():
    places = [Place(1), Place(2), Place(1, step=1), Place(1, micro_batch=1), Place(1, rank=1), Place(1 << 32)]
    rows = {draw("uniform", (8,), np.dtype(np.float32), 0, place).tobytes() for place in places}
    rows.add(draw("uniform", (8,), np.dtype(np.float32), 1, places[0]).tobytes())
    assert len(rows) == len(places) + 1
