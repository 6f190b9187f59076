"""keep, inline, opaque and symbolic: what stands in the file."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

import gradport

from . import functions as fn

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


def nodes_of(program):
    return [(node.domain, node.op_type) for node in program.model.graph]


class WithSymbolic(torch.autograd.Function):
    @staticmethod
    def symbolic(g, x):
        return g.op("Relu", x)

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    backward = staticmethod(fn.masked)


class WithCustomSymbolic(WithSymbolic):
    @staticmethod
    def symbolic(g, x):
        return g.op("com.acme::FastRelu", x, alpha_f=0.5, outputs=1)


class WithStrangeSymbolic(WithSymbolic):
    @staticmethod
    def symbolic(g, x):
        return g.block().addNode("Relu", x)


def test_inline_holds_standard_operators_alone():
    program = gradport.export(fn.Outer, X, wrt="inputs", functions="inline")
    assert {domain for domain, _ in nodes_of(program)} == {""}
    assert not program.model.functions


def test_opaque_is_one_node_for_each_phase_and_carries_its_static_arguments():
    program = gradport.export(fn.Surrogate, (X, 5.0), wrt="inputs", functions="opaque")
    forward, backward = [node for node in program.model.graph if node.domain]
    assert [forward.op_type, backward.op_type] == ["Surrogate.forward", "Surrogate.backward"]
    assert forward.attributes["alpha"].as_float() == backward.attributes["alpha"].as_float() == 5.0
    assert [value.name for value in forward.inputs] == ["x"]
    assert [value.name for value in backward.inputs] == ["x", "cotangent_output"]
    onnx.checker.check_model(ir.to_proto(program.model))


def test_opaque_outputs_have_value_info_with_the_dynamic_dimension():
    program = gradport.export(fn.Swish, X, wrt="inputs", functions="opaque", dynamic_shapes=({0: "batch"},))
    for node in program.model.graph:
        for value in node.outputs:
            assert value.dtype == ir.DataType.FLOAT
            assert [str(dim) if isinstance(dim, int) else dim.value for dim in value.shape] == ["batch", "3"]


def test_the_number_of_opaque_inputs_and_outputs_never_varies():
    def one_gradient(a, b):
        return fn.Newer.apply(a, b)

    weight = torch.randn(3, 5)
    both = gradport.export(fn.Newer, (X, weight), wrt="inputs", functions="opaque")
    one = gradport.export(one_gradient, (X, weight), wrt=["a"], functions="opaque")
    counts = [[(len(n.inputs), len(n.outputs)) for n in p.model.graph if n.domain] for p in (both, one)]
    assert counts[0] == counts[1] == [(2, 1), (3, 2)]


def test_saved_values_that_are_neither_given_nor_taken_become_further_outputs():
    class Saving(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            e = x.exp()
            ctx.save_for_backward(e)
            return e + 1

        @staticmethod
        def backward(ctx, g):
            (e,) = ctx.saved_tensors
            return g * e

    program = gradport.export(Saving, X, wrt="inputs", functions="opaque")
    forward, backward = [node for node in program.model.graph if node.domain]
    assert len(forward.outputs) == 2
    assert backward.inputs[0] is forward.outputs[1]


def test_opaque_takes_a_domain_and_a_name():
    forms = {fn.Swish: "opaque:com.acme::FastSwish", None: "inline"}
    program = gradport.export(lambda x: fn.Swish.apply(fn.Clamp.apply(x)), X, wrt="inputs", functions=forms)
    assert {pair for pair in nodes_of(program) if pair[0]} == {
        ("com.acme", "FastSwish.forward"),
        ("com.acme", "FastSwish.backward"),
    }


def test_an_own_kernel_takes_the_opaque_node_and_without_it_the_fallback_runs():
    program = gradport.export(fn.Swish, X, wrt="inputs", functions="opaque:com.acme::FastSwish")
    bare = gradport.export(fn.Swish, X, wrt="inputs", functions="opaque:com.acme::FastSwish", fallback=False)
    assert not bare.model.functions

    class Kernel(OpRun):
        op_domain = "com.acme"

        def _run(self, *args):
            calls.append(type(self).__name__)
            return (self.value(*args).astype(np.float32),)

    class Forward(Kernel):
        value = staticmethod(lambda x: x / (1 + np.exp(-x)))

    class Backward(Kernel):
        @staticmethod
        def value(x, g):
            s = 1 / (1 + np.exp(-x))
            return g * s * (1 + x * (1 - s))

    Forward.__name__, Backward.__name__ = "FastSwish.forward", "FastSwish.backward"
    calls = []
    feeds = {"x": X.numpy(), "cotangent_output": np.ones((4, 3), np.float32)}
    own = ReferenceEvaluator(ir.to_proto(bare.model), new_ops=[Forward, Backward]).run(None, feeds)
    assert calls == ["FastSwish.forward", "FastSwish.backward"]
    for mine, fallback in zip(own, program.run(X, torch.ones(4, 3)), strict=True):
        torch.testing.assert_close(torch.from_numpy(mine), fallback)


def test_several_bodies_of_one_opaque_name_are_told_apart_by_overload():
    def twice(x):
        return fn.Surrogate.apply(x, 2.0) + fn.Surrogate.apply(x, 3.0)

    program = gradport.export(twice, X, wrt="inputs", functions="opaque")
    overloads = {f.overload for f in program.model.functions.values() if f.name == "Surrogate.backward"}
    assert len(overloads) == 2
    assert gradport.verify(program, twice, X, runtimes=["onnxruntime"]).ok
    skipped = gradport.verify(program, twice, X, runtimes=["reference"]).findings[0]
    assert skipped.outcome == "skipped"
    assert "overload" in skipped.message


def test_an_argument_that_no_attribute_can_hold_is_refused_by_name():
    args = (X, "double", None, torch.float32, (2, 6), torch.sin)
    with pytest.raises(gradport.ExportError, match=r"Static .*functions\.py:\d+\) takes function=.*functions='keep'"):
        gradport.export(fn.Static, args, wrt="inputs", functions="opaque")


def test_symbolic_replays_standard_operators_and_keeps_our_backward():
    program = gradport.export(WithSymbolic, X, wrt="inputs", functions="symbolic")
    assert ("", "Relu") in nodes_of(program)
    assert gradport.verify(program, WithSymbolic, X).ok


def test_symbolic_replays_custom_domains_with_their_attributes():
    program = gradport.export(WithCustomSymbolic, X, wrt="inputs", functions="symbolic")
    (node,) = [node for node in program.model.graph if node.domain == "com.acme"]
    assert node.op_type == "FastRelu"
    assert node.attributes["alpha"].as_float() == 0.5


def test_what_a_symbolic_asks_that_cannot_be_replayed_is_refused_by_name():
    with pytest.raises(gradport.ExportError, match=r"WithStrangeSymbolic .*g\.block"):
        gradport.export(WithStrangeSymbolic, X, wrt="inputs", functions="symbolic")
    with pytest.raises(gradport.ExportError, match=r"Clamp .*has no symbolic"):
        gradport.export(fn.Clamp, X, wrt="inputs", functions="symbolic")


def test_a_symbolic_that_computes_something_else_is_caught_by_the_proof():
    class Lying(WithSymbolic):
        @staticmethod
        def symbolic(g, x):
            return g.op("Abs", x)

    with pytest.raises(gradport.ExportError, match="the output 'output' differs from eager"):
        gradport.export(Lying, X, wrt="inputs", functions="symbolic")


@pytest.mark.parametrize("form", ["kept", "opaque:", "opaque:Fast", "inline:x::y", 3])
def test_a_form_that_does_not_exist_is_refused(form):
    with pytest.raises(gradport.SpecError, match="functions="):
        gradport.export(fn.Clamp, X, functions=form)


def test_a_mapping_takes_functions_alone():
    with pytest.raises(gradport.SpecError, match=r"neither an autograd\.Function"):
        gradport.export(fn.Clamp, X, functions={torch.sin: "inline"})
