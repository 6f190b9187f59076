"""The wheel and the sdist that `make dist` built: what they hold, and the wheel in a fresh environment."""

import pathlib
import re
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile

import pytest

import gradport

pytestmark = pytest.mark.release

ROOT = pathlib.Path(__file__).parents[2]

EXPORT = """
import torch, gradport
from gradport.evidence import schema
class Half(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x): return x / 2
    @staticmethod
    def backward(ctx, g): return g / 2
program = gradport.export(Half, (torch.ones(2),), wrt="inputs")
assert [value.tolist() for value in program.run(torch.ones(2), torch.ones(2))] == [[0.5, 0.5]] * 2
print(gradport.__version__, gradport.__file__)
"""


SCHEMAS = [
    "gradport/evidence/evidence.schema.json",
    "gradport/evidence/series.schema.json",
    "gradport/training/training.schema.json",
]

TRAIN = """
import importlib.util, json, sys
import numpy as np
from gradport_runtime import Trainer
steps = json.load(open(sys.argv[1] + "/steps.json"))
trainer = Trainer(sys.argv[1] + "/bundle", seed=steps["seed"])
for batch, loss in zip(steps["batches"], steps["losses"]):
    found = trainer.step(x=np.array(batch["x"], np.float32), target=batch["target"])["loss"]
    assert abs(found - loss) <= 1e-5 * loss, (found, loss)
assert importlib.util.find_spec("torch") is None and importlib.util.find_spec("onnx") is None
"""


@pytest.fixture(scope="module")
def wheel():
    (found,) = (ROOT / "dist").glob("gradport-*.whl")
    return found


@pytest.fixture(scope="module")
def python(tmp_path_factory, wheel):
    """Python of a fresh environment with the wheel; the libraries are those of this environment."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", site, wheel]
    subprocess.run(command, check=True)
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "bin" / "python"


def test_the_wheel_holds_the_package_with_its_data_and_its_licences(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    for needed in ("gradport/py.typed", "gradport/operators/activations.py", *SCHEMAS):
        assert needed in names
    assert any(name.startswith("gradport/reporting/templates/") for name in names)
    assert {pathlib.PurePath(name).name for name in names if "/licenses/" in name} == {
        "LICENSE",
        "THIRD_PARTY_NOTICES.md",
    }
    assert not [name for name in names if name.startswith("test") or "__pycache__" in name]


def test_the_sdist_holds_what_the_wheel_is_built_from():
    (sdist,) = (ROOT / "dist").glob("gradport-*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "src/gradport/__init__.py"} <= names


def test_the_wheel_exports_in_a_fresh_environment(python, tmp_path):
    done = subprocess.run([python, "-c", EXPORT], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    version, file = done.stdout.split()
    assert version == gradport.__version__
    assert pathlib.Path(file).is_relative_to(python.parents[1])


def test_the_command_is_there(python, tmp_path):
    done = subprocess.run([python, "-m", "gradport", "--version"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and gradport.__version__ in done.stdout, done.stderr


def test_the_newest_section_of_the_changelog_is_this_version():
    heading = re.search(r"^## (\S+) - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert heading and heading[1] == gradport.__version__


def test_the_runtime_trains_in_an_environment_without_torch(tmp_path):
    (wheel,) = (ROOT / "dist").glob("gradport_runtime-*.whl")
    venv.create(tmp_path / "fresh", with_pip=False, symlinks=True)
    (site,) = (tmp_path / "fresh").glob("lib/python*/site-packages")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", site]
    subprocess.run([*pip, "-c", ROOT / "constraints.txt", wheel], check=True, capture_output=True)
    command = [tmp_path / "fresh" / "bin" / "python", "-c", TRAIN, ROOT / "conformance"]
    done = subprocess.run(list(map(str, command)), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
