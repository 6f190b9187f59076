"""What a Function is called in a file, how often it is called, and which of the forms it takes: the utilities around
local functions. Two Functions of one name from two modules run through all of it, because a mix-up of the two is a
wrong gradient that nothing else reports."""

import re

import autograd_helper
import identity_models
import onnx.inliner
import onnx_ir as ir
import pytest
import torch
from pytorch_test_common import StraightThrough, Swish, eager

import gradport

X = torch.tensor([-1.5, -0.5, 0.25, 0.75, 1.5, 2.5])
HELPER, TWIN = autograd_helper.CustomFunction, identity_models.CustomFunction
OPAQUE = "opaque:com.acme::Name"


def twins(x):
    return HELPER.apply(x) + TWIN.apply(HELPER.apply(x))


def exported(target=twins, **options):
    return gradport.export(target, X, wrt="inputs", **options)


def calls(program):
    """The nodes of the main graph that are no ONNX operators."""
    return [node for node in program.model.graph if node.domain]


def hashes(program, phase):
    return {f.name.rpartition(".")[2] for f in program.functions if f.phase == phase}


def test_a_kept_name_is_qualified_name_phase_and_hash():
    for function in exported().functions:
        assert re.fullmatch(rf"CustomFunction\.{function.phase}\.[0-9a-f]{{8}}", function.name)


def test_each_function_points_to_the_file_that_its_domain_names():
    for function in exported().functions:
        assert function.file.endswith(f"{function.domain}.py")


def test_uses_count_the_calls_of_each_domain():
    uses = {(f.domain, f.phase): f.uses for f in exported().functions}
    assert uses == {
        ("autograd_helper", "forward"): 2,
        ("autograd_helper", "backward"): 2,
        ("identity_models", "forward"): 1,
        ("identity_models", "backward"): 1,
    }


def test_the_hash_differs_with_the_body_alone():
    two, three = (exported(lambda x, k=k: identity_models.Scaled.apply(x, k)) for k in (2.0, 3.0))
    again = exported(lambda x: identity_models.Scaled.apply(x.sin(), 2.0))
    assert hashes(two, "forward") == hashes(again, "forward") != hashes(three, "forward")


def test_a_backward_that_changes_alone_changes_its_own_hash_alone():
    class Masked(HELPER):
        __qualname__ = HELPER.__qualname__

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return 5 * g * (x > 0)

    before, after = exported(HELPER), exported(Masked)
    assert hashes(before, "forward") == hashes(after, "forward")
    assert hashes(before, "backward") != hashes(after, "backward")


def test_functions_survive_saving_and_loading(tmp_path):
    program = exported()
    program.save(tmp_path / "twins.onnx")
    assert gradport.load(tmp_path / "twins.onnx").functions == program.functions


def test_inline_leaves_operators_of_onnx_alone():
    program = exported(functions="inline")
    assert {node.domain for node in program.model.graph} == {""}
    assert not program.functions
    assert not program.model.functions


def test_the_file_of_the_inlined_twins_names_no_other_domain():
    assert [(i.domain, i.version) for i in ir.to_proto(exported(functions="inline").model).opset_import] == [("", 20)]


@pytest.mark.parametrize("form", ["keep", "inline", "opaque"])
def test_every_form_gives_the_numbers_of_eager(form):
    cotangent = torch.linspace(0.5, 3.0, 6)
    found = exported(functions=form).run(X, cotangent)
    torch.testing.assert_close(list(found), eager(twins, X, cotangents=[cotangent]))


def test_onnx_inlines_the_kept_twins_to_the_same_numbers():
    program = exported()
    inlined = onnx.inliner.inline_local_functions(ir.to_proto(program.model))
    assert not inlined.functions
    assert all(map(torch.equal, gradport.Program(ir.from_proto(inlined)).run(X, X), program.run(X, X)))


def test_opaque_twins_have_their_modules_as_domains_and_no_hash():
    found = {(node.domain, node.op_type) for node in calls(exported(functions="opaque"))}
    assert found == {
        (domain, f"CustomFunction.{phase}")
        for domain in ("autograd_helper", "identity_models")
        for phase in ("forward", "backward")
    }


def test_an_opaque_node_has_a_body_of_onnx_operators():
    program = exported(functions="opaque")
    assert {node.op_identifier() for node in calls(program)} == set(program.model.functions)
    assert {node.domain for function in program.model.functions.values() for node in function} == {""}


def test_without_fallback_no_body_ships():
    program = exported(functions="opaque", fallback=False)
    assert calls(program)
    assert not program.model.functions


def test_a_mapping_gives_one_twin_its_form_and_the_rest_another():
    program = exported(functions={HELPER: OPAQUE, None: "inline"})
    assert {(n.domain, n.op_type) for n in calls(program)} == {
        ("com.acme", "Name.forward"),
        ("com.acme", "Name.backward"),
    }


def test_a_mapping_without_a_rest_keeps_it():
    program = exported(functions={HELPER: "inline"})
    assert {f.domain for f in program.functions} == {"identity_models"}


def test_fallback_false_takes_the_bodies_of_opaque_functions_alone():
    program = exported(functions={HELPER: OPAQUE, None: "keep"}, fallback=False)
    assert {f.domain for f in program.model.functions.values()} == {"identity_models"}


def test_twins_under_one_opaque_name_keep_a_body_each():
    program = exported(functions={HELPER: OPAQUE, TWIN: OPAQUE})
    assert len({f.overload for f in program.model.functions.values() if f.name == "Name.forward"}) == 2
    torch.testing.assert_close(list(program.run(X, torch.ones(6))), eager(twins, X))


def test_the_number_of_nodes_of_an_opaque_function_follows_its_calls():
    def chain(x):
        return StraightThrough.apply(Swish.apply(Swish.apply(x, 1.0), 2.0))

    names = [node.op_type for node in calls(exported(chain, functions="opaque"))]
    assert names.count("Swish.forward") == names.count("Swish.backward") == 2
    assert names.count("StraightThrough.forward") == names.count("StraightThrough.backward") == 1
