"""examples/federated when a client dies. A file of its own, so that it runs beside the other tests."""

import pytest

from .launching import living, train

pytestmark = pytest.mark.federated


def test_a_killed_client_costs_only_its_round(folder):
    output, rounds = train(folder, "--kill-client", "2")
    assert "round 2: client-1 killed and started again" in output
    assert [(row["asked"], row["answered"]) for row in rounds] == [(0, 0), (2, 2), (2, 1), (2, 2)]
    assert rounds[3]["accuracy"] > max(rounds[0]["accuracy"] + 0.5, rounds[2]["accuracy"])
    assert not living(folder)
