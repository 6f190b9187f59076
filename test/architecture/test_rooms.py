"""The rooms stand on floors: imports run downhill, without circles, and nothing has an unheard-of size."""

import ast
import pathlib

import gradport

SOURCE = pathlib.Path(gradport.__file__).parent

FLOORS = [
    {"cli", "__main__"},
    {"pytest_plugin", "testing"},
    {"report"},
    {"survey"},
    {"verify", "check"},
    {"export_step"},
    {"export"},
    {"selftest"},
    {"divergence"},
    {"proof", "intermediates"},
    {"following", "weights", "draws"},
    {"rewrite"},
    {"answers"},
    {"lower"},
    {"capture"},
    {"loading"},
    {"program", "inputs", "interface"},
    {"sessions", "state_files"},
    {"step"},
    {"eager"},
    {"changes", "settings"},
    {"dimensions", "tolerance", "evidence", "names"},
    {"joint"},
    {"optimizers"},
    {"activations", "control_flow", "randomness", "references", "wrt"},
    {"signature", "state", "user_code", "limit", "branches", "child"},
    {"custom_operators"},
    {"compat"},
    {"subject", "leaves", "spec", "slots", "expressions"},
    {"effort"},
    {"errors", "paths", "quiet"},
]


def room_of(path):
    relative = path.relative_to(SOURCE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gradport"):
            parts = node.module.split(".")
            yield from [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]


def test_imports_run_downhill():
    floor = {room: height for height, rooms in enumerate(reversed(FLOORS)) for room in rooms}
    uphill = set()
    for path in SOURCE.rglob("*.py"):
        room = room_of(path)
        if room == "__init__":
            continue
        for imported in imports_of(path):
            if imported in floor and imported != room and floor[imported] > floor[room]:
                uphill.add(f"{path.relative_to(SOURCE)} imports {imported}")
    assert not uphill


def test_every_room_stands_on_a_floor():
    known = set().union(*FLOORS)
    assert {room_of(path) for path in SOURCE.rglob("*.py")} - {"__init__"} <= known


def test_check_and_report_do_not_need_onnx():
    for room in ("check", "report"):
        for path in (SOURCE / room).rglob("*.py"):
            tree = ast.parse(path.read_text("utf-8"))
            top = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
            names = {(getattr(n, "module", None) or n.names[0].name).split(".")[0] for n in top}
            assert not names & {"onnx", "onnx_ir", "onnxruntime", "onnxscript"}, path


def test_files_stay_readable():
    long = {str(p.relative_to(SOURCE)) for p in SOURCE.rglob("*.py") if len(p.read_text("utf-8").splitlines()) > 420}
    assert not long


def test_the_readme_tells_of_every_rule():
    from gradport.check import RULES

    readme = (SOURCE.parents[1] / "README.md").read_text("utf-8")
    assert [name for name in RULES if f"`{name}`" not in readme] == []
