"""torch's own lists as suites."""

import pytest

import gradport
from gradport.campaigning.cases import CaseOutcome
from gradport.campaigning.suites import SUITES, suite_entries

EXAMPLES = {
    "operators": "nn.functional.gelu/0",
    "modules": "nn.Linear/0",
    "optimizers": "SGD, default/0",
    "functions": "CubeGenVmapAutogradFunction/0",
}


@pytest.mark.parametrize("suite", SUITES)
def test_an_entry_of_each_suite_is_right(suite, tmp_path):
    found = gradport.campaign(
        f"torch:{suite}", only=[EXAMPLES[suite]], checks=False, workers=0, store=tmp_path / "c.db", budget=0.2
    )
    assert [row.outcome for row in found.rows()] == [CaseOutcome.OK], found.rows()[0].message


@pytest.mark.parametrize(
    ("suite", "least"), [("operators", 1400), ("modules", 300), ("optimizers", 80), ("functions", 10)]
)
def test_the_lists_are_long(suite, least):
    names = [entry.name for entry in suite_entries(suite)]
    assert len(names) == len(set(names)) > least
