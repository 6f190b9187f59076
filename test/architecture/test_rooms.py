"""The rooms and what ARCHITECTURE.md says of them. Imports are held by import-linter (make lint)."""

import ast
import pathlib
import re
import tomllib

import gradport

SOURCE = pathlib.Path(gradport.__file__).parent
ROOT = pathlib.Path(__file__).parents[2]


def rooms_of_the_document():
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    table = text.partition("| room | what it does |")[2].partition("\n\n")[0]
    return re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)


def test_the_document_and_the_contract_have_the_same_rooms_in_the_same_order():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    assert layers == rooms_of_the_document()


def test_every_file_stands_in_a_room():
    there = {path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert there == {*rooms_of_the_document(), "__init__"}


def test_every_file_that_the_document_names_exists():
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    known = {path.name for place in (SOURCE, ROOT / "test", ROOT / "bench") for path in place.rglob("*")}
    named = {name.rpartition("/")[2] for name in re.findall(r"`([\w/]+\.(?:py|js))`", text)}
    assert named - known == set()


def test_each_change_has_a_file_that_defines_what_is_named():
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    table = text.partition("| what | file | what stands there |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| [^|]+ \| `([\w/.]+)`[^|]*\| `@?(\w+)`", table, re.MULTILINE)
    assert len(rows) >= 10
    for path, name in rows:
        source = (ROOT / path).read_text("utf-8")
        assert re.search(rf"^(def|class|@)?\s*{name}\b", source, re.MULTILINE), (path, name)


def test_every_room_says_what_comes_in_and_what_goes_out():
    for room in SOURCE.iterdir():
        if (room / "__init__.py").exists() and room.name not in ("cli", "compat"):
            said = ast.get_docstring(ast.parse((room / "__init__.py").read_text("utf-8")))
            assert all(word in said for word in ("Input: ", "Output: ", "Never")), room.name


def test_checking_and_reporting_do_not_need_onnx():
    for room in ("checking", "reporting"):
        for path in (SOURCE / room).rglob("*.py"):
            tree = ast.parse(path.read_text("utf-8"))
            top = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
            names = {(getattr(n, "module", None) or n.names[0].name).split(".")[0] for n in top}
            assert not names & {"onnx", "onnx_ir", "onnxruntime", "onnxscript"}, path


def test_files_stay_readable():
    long = {str(p.relative_to(SOURCE)) for p in SOURCE.rglob("*.py") if len(p.read_text("utf-8").splitlines()) > 400}
    assert not long


def test_functions_stay_readable():
    """Signature and docstring not counted: a public function names and explains each option."""
    long = []
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                if body and node.end_lineno - body[0].lineno >= 50:
                    long.append(f"{path.relative_to(SOURCE)}: {node.name}")
    assert not long


def test_the_docs_tell_of_every_rule():
    from gradport.checking import RULES

    page = (ROOT / "docs" / "check.md").read_text("utf-8")
    assert [name for name in RULES if f"`{name}`" not in page] == []
