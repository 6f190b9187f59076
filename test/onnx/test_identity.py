"""Two Functions with one name stay two different things in every exported file, whatever the process."""

import importlib
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import autograd_helper
import identity_models
import onnx
import onnx_ir as ir
import pytest
import torch

import gradport
import gradport.lowering.identity

HERE = pathlib.Path(__file__).parent
X = torch.linspace(-2, 2, 6)


def functions_of(target, args=(X,), **options):
    return gradport.export(target, args, wrt="inputs", **options).functions


def body_of(program, name):
    (found,) = [function for function in program.model.functions.values() if function.name == name]
    return ir.serde.serialize_function(found).SerializeToString()


def test_equal_names_of_two_modules_stay_two_functions():
    def both(x):
        return identity_models.CustomFunction.apply(x) + autograd_helper.CustomFunction.apply(x)

    program = gradport.export(both, X, wrt="inputs")
    named = {(f.domain, f.name, f.phase) for f in program.functions}
    assert {domain for domain, _, _ in named} == {"autograd_helper", "identity_models"}
    assert len(named) == 4
    x = torch.tensor([-1.0, 0.0, 0.5, 1.0, 2.0, float("nan")])[:6]
    output, gradient = program.run(x, torch.ones(6))
    assert torch.equal(output[:5], x[:5].clamp(min=1) + x[:5].clamp(min=0))
    assert torch.equal(gradient[:5], torch.tensor([0.0, 1.0, 1.0, 2.0, 2.0]))


def test_two_closures_of_one_factory_have_their_own_bodies():
    one, other = identity_models.make(1.0), identity_models.make(1.702)

    def both(x):
        return one.apply(x) * other.apply(x)

    forwards = [f for f in functions_of(both) if f.phase == "forward"]
    assert {f.name.rpartition(".")[0] for f in forwards} == {"make.<locals>.Gelu.forward"}
    assert len({f.name for f in forwards}) == 2
    assert gradport.verify(gradport.export(both, X, wrt="inputs"), both, X).ok


def test_two_closures_with_equal_constants_are_one_function():
    def both(x):
        return identity_models.make(1.5).apply(x) + identity_models.make(1.5).apply(x)

    assert [(f.phase, f.uses) for f in functions_of(both)] == [("forward", 2), ("backward", 2)]


def test_other_constants_make_another_function():
    def thrice(x):
        scaled = identity_models.Scaled.apply
        return scaled(scaled(scaled(x, 2.0), 3.0), 2.0)

    uses = sorted((f.phase, f.uses) for f in functions_of(thrice))
    assert uses == [("backward", 1), ("backward", 2), ("forward", 1), ("forward", 2)]


def test_a_reloaded_module_with_another_body_is_another_function(tmp_path, monkeypatch):
    source = (
        "import torch\n"
        "class Reloaded(torch.autograd.Function):\n"
        "    @staticmethod\n"
        "    def forward(ctx, x):\n"
        "        return x * {}\n"
        "    @staticmethod\n"
        "    def backward(ctx, g):\n"
        "        return g * {}\n"
    )
    file = tmp_path / "reloaded_module.py"
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    file.write_text(source.format("2.0", "2.0"))
    module = importlib.import_module("reloaded_module")
    before = module.Reloaded
    file.write_text(source.format("3.00", "3.00"))
    importlib.invalidate_caches()
    after = importlib.reload(module).Reloaded

    def both(x):
        return before.apply(x) + after.apply(x)

    program = gradport.export(both, X, wrt="inputs")
    assert {f.domain for f in program.functions} == {"reloaded_module"}
    assert len({f.name for f in program.functions}) == 4
    assert torch.equal(program.run(X, torch.ones(6))[0], X * 2 + X * 3)


@pytest.mark.corpus
def test_a_file_that_runs_as_main_gives_the_domain_that_importing_it_gives():
    imported = {(f.domain, f.name) for f in functions_of(autograd_helper.CustomFunction)}
    code = (
        "import runpy, torch, sys\n"
        f"module = runpy.run_path({str(HERE / 'autograd_helper.py')!r}, run_name='__main__')\n"
        "import gradport, json\n"
        "p = gradport.export(module['CustomFunction'], torch.linspace(-2, 2, 6), wrt='inputs')\n"
        "print(json.dumps([[f.domain, f.name] for f in p.functions]))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert {tuple(entry) for entry in json.loads(printed.splitlines()[-1])} == imported


@pytest.mark.corpus
@pytest.mark.parametrize("order", ["helper first", "models first"])
def test_names_are_stable_across_processes_hash_seeds_and_import_orders(order):
    here = sorted((f.domain, f.name, f.uses) for f in functions_of(identity_models.all_twins))
    for seed in ("0", "1234"):
        printed = subprocess.run(
            [sys.executable, str(HERE / "identity_models.py"), order],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        assert sorted(tuple(entry) for entry in json.loads(printed.splitlines()[-1])) == here


def test_equal_names_mean_equal_bodies_in_two_files_so_that_they_can_be_united():
    def first(x):
        return identity_models.make(1.0).apply(autograd_helper.CustomFunction.apply(x))

    def second(x):
        return identity_models.make(2.0).apply(autograd_helper.CustomFunction.apply(x * 3))

    files = [gradport.export(target, X, wrt="inputs") for target in (first, second)]
    names = [{f.name for f in file.functions} for file in files]
    assert len(names[0] & names[1]) == 2
    for name in names[0] & names[1]:
        assert body_of(files[0], name) == body_of(files[1], name)
    united = ir.to_proto(files[0].model)
    known = {(f.domain, f.name) for f in united.functions}
    other = ir.to_proto(files[1].model)
    united.functions.extend(f for f in other.functions if (f.domain, f.name) not in known)
    assert len(united.functions) == 6
    onnx.checker.check_model(united)


@pytest.mark.corpus
def test_without_the_hash_in_the_names_the_twins_collide(monkeypatch):
    """The detector of this module: leave the hash out, and bodies get lost."""
    plain = lambda function, phase, graph: f"{function.__qualname__}.{phase}"
    monkeypatch.setattr("gradport.lowering.forms.hash_name", plain)
    program = gradport.export(identity_models.all_twins, X, wrt="inputs", verify=False)
    assert not gradport.verify(program, identity_models.all_twins, X, runtimes=["onnxruntime"]).ok
    with pytest.raises(gradport.ExportError, match="was not exported"):
        gradport.export(identity_models.all_twins, X, wrt="inputs")
