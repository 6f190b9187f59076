"""Importing gradport, asking for help and loading the pytest plugin cost nothing heavy."""

import os
import pathlib
import subprocess
import sys
import time

import pytest

HEAVY = ("onnx", "onnxscript", "onnxruntime", "onnx_ir", "hypothesis")


def loaded_after(statement: str) -> set[str]:
    """Top-level modules that stand in sys.modules after a statement in a new process."""
    code = f"{statement}\nimport sys\nprint(' '.join(sorted({{name.split('.')[0] for name in sys.modules}})))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def test_importing_gradport_loads_nothing_heavy():
    assert not loaded_after("import gradport").intersection({*HEAVY, "torch"})


def test_importing_the_pytest_plugin_loads_nothing_heavy():
    assert not loaded_after("import gradport.pytest_plugin").intersection({*HEAVY, "torch"})


def test_checking_a_function_needs_no_onnx():
    statement = (
        "import torch, gradport\n"
        "class Double(torch.autograd.Function):\n"
        "    @staticmethod\n"
        "    def forward(ctx, x): return x * 2\n"
        "    @staticmethod\n"
        "    def backward(ctx, g): return g * 2\n"
        "assert gradport.check(Double, torch.randn(3)).ok"
    )
    assert not loaded_after(statement).intersection({"onnx", "onnxscript", "onnxruntime", "onnx_ir"})


def test_help_answers_in_under_half_the_time_of_importing_torch():
    def best(command: list[str]) -> float:
        times = []
        for _ in range(3):
            started = time.perf_counter()
            subprocess.run(command, capture_output=True, check=True)
            times.append(time.perf_counter() - started)
        return min(times)

    main = "from gradport.__main__ import main; main()"
    assert best([sys.executable, "-c", main, "--help"]) < 0.5 * best([sys.executable, "-c", "import torch"])


def test_no_room_has_the_name_of_a_public_function():
    import gradport

    folder = pathlib.Path(gradport.__file__).parent
    assert {path.stem for path in folder.iterdir()} & set(gradport.__all__) == set()


CORE = """
import sys
sys.modules.update(dict.fromkeys(("jinja2", "matplotlib", "pygments", "jsonschema", "rich", "typer", "pytest")))
import torch, gradport

class Half(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x / 2

    @staticmethod
    def backward(ctx, g):
        return g / 2

x = torch.randn(3)
program = gradport.export(Half, x, wrt="inputs")
program.save("half.onnx")
assert gradport.check(Half, x, budget=0.1, only=("differences",)).ok
assert gradport.verify("half.onnx", Half, x, budget=0.1).ok
wrong = gradport.verify("half.onnx", lambda x: x / 3, x, wrt="inputs", budget=0.1, reproducer="here")
assert not wrong.ok and wrong.to_json()
"""


def test_export_check_and_verify_need_no_extra(tmp_path):
    done = subprocess.run([sys.executable, "-c", CORE], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("lacks", "code", "extra"),
    [
        ("typer", "from gradport.__main__ import main; main()", "cli"),
        ("jinja2", "import gradport.reporting.run", "pages"),
        ("jsonschema", "import gradport; gradport.Evidence.from_json(gradport.Evidence('s').to_json())", "pages"),
        ("matplotlib", "from gradport.reporting.plots import figure_of; figure_of('a', 1, 1).__enter__()", "pages"),
    ],
)
def test_a_missing_extra_is_named(lacks, code, extra):
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.modules[{lacks!r}] = None; {code}"], capture_output=True, text=True
    )
    assert done.returncode != 0
    assert f"need {lacks}, which is not installed" in done.stderr and f"gradport[{extra}]" in done.stderr


@pytest.mark.corpus
def test_an_export_does_not_import_hypothesis():
    code = "import torch, gradport; gradport.export(torch.nn.Tanh(), torch.ones(2), wrt='inputs')"
    assert "hypothesis" not in loaded_after(code)


def test_every_public_name_is_there():
    import gradport

    for name in gradport.__all__:
        assert getattr(gradport, name) is not None


@pytest.mark.parametrize("package", ["gradport", "gradport_runtime"])
@pytest.mark.parametrize("chosen", [None, "0"])
def test_the_telemetry_of_onnx_runtime_is_off_unless_a_user_chose(package, chosen):
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {} if chosen is None else {"ORT_DISABLE_TELEMETRY": chosen}
    code = f"import {package}, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert ran.stdout.strip() == (chosen or "1")
