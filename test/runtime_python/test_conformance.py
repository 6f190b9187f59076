"""The conformance folder, as any implementation has to pass it."""

import json
import pathlib
import shutil

import numpy as np
import pytest
from gradport_runtime import Error, Trainer
from gradport_runtime.draws import Place, draw

CONFORMANCE = pathlib.Path(__file__).parents[2] / "conformance"
STEPS, DRAWS, BROKEN = (json.loads((CONFORMANCE / f"{name}.json").read_text()) for name in ("steps", "draws", "broken"))


def arrays(batch):
    return {"x": np.array(batch["x"], np.float32), "target": np.array(batch["target"])}


def test_ten_steps():
    trainer = Trainer(CONFORMANCE / "bundle", seed=STEPS["seed"])
    batches = [arrays(batch) for batch in STEPS["batches"]]
    results = [trainer.step(batch) for batch in batches]
    assert [one["loss"] for one in results] == pytest.approx(STEPS["losses"], rel=1e-5)
    assert [one["accuracy"] for one in results] == pytest.approx(STEPS["accuracy"])
    assert trainer.evaluate(batches[-1]) == pytest.approx(STEPS["evaluated"], rel=1e-4)
    assert trainer.predict(x=batches[-1]["x"])["output"] == pytest.approx(np.array(STEPS["outputs"]), abs=1e-4)
    assert trainer.accumulate(batches[:2])["loss"] == pytest.approx(STEPS["accumulated"], rel=1e-4)


@pytest.mark.parametrize("one", DRAWS["draws"], ids=lambda one: f"{one['distribution']} {one['dtype']}")
def test_draws(one):
    said = DRAWS["place"]
    place = Place(int(said["seed"]), said["step"], said["micro_batch"], said["rank"])
    found = draw(one["distribution"], (len(one["values"]),), np.dtype(one["dtype"]), one["number"], place)
    if one["distribution"] == "uniform":
        assert found.tolist() == one["values"]
    else:  # processors round logarithm, cosine and sine differently
        np.testing.assert_array_max_ulp(found, np.array(one["values"], found.dtype), maxulp=4)


def spoil(folder, change):
    """Makes one change of `broken.json`."""
    if "file" in change:
        file = folder / change["file"]
        file.write_bytes(file.read_bytes()[: change["keep"]])
        return
    manifest = json.loads((folder / "training.json").read_text())
    *above, last = change["path"]
    place = manifest
    for key in above:
        place = place[key]
    if "value" in change:
        place[last] = change["value"]
    else:
        del place[last]
    (folder / "training.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("change", BROKEN, ids=lambda change: change["name"])
def test_broken_bundles(change, tmp_path):
    shutil.copytree(CONFORMANCE / "bundle", tmp_path / "bundle")
    spoil(tmp_path / "bundle", change)
    with pytest.raises(Error) as refusal:
        Trainer(tmp_path / "bundle")
    assert refusal.value.code == change["code"]
