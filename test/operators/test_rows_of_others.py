"""A package adds a row of its own: a row that is registered late is seen, and so is one of a later opset."""

import uuid

import numpy as np
import onnx
import pytest
import torch

import gradport
from gradport.errors import ExportError
from gradport.operators import lowering, op, rows, table


@pytest.fixture
def operator(monkeypatch):
    """An operator of torch.library that no exporter knows: three times its argument."""
    monkeypatch.setattr(table, "_ROWS", list(table._ROWS))
    name = f"gradport_test_{uuid.uuid4().hex}"
    library = torch.library.Library(name, "DEF")
    library.define("triple(Tensor x) -> Tensor")
    library.impl("triple", lambda x: 3 * x, "CPU")
    torch.library.register_fake(f"{name}::triple", torch.empty_like, lib=library)
    triple = getattr(torch.ops, name).triple.default
    torch.library.register_autograd(f"{name}::triple", lambda ctx, cotangent: triple(cotangent), lib=library)
    yield triple
    library._destroy()


def test_a_row_that_is_registered_late_is_seen(operator):
    x = torch.randn(3)
    with pytest.raises(ExportError, match="triple"):
        gradport.export(lambda x: operator(x), (x,), wrt="inputs")

    @lowering(operator)
    def triple(x):
        return op.Mul(x, op.CastLike(op.Constant(value_float=3.0), x))

    program = gradport.export(lambda x: operator(x), (x,), wrt="inputs")
    output, gradient = program.run(x, torch.ones(3))
    np.testing.assert_allclose(output, 3 * x)
    np.testing.assert_allclose(gradient, np.full(3, 3.0))


def test_of_two_rows_the_one_of_the_later_opset_holds_from_there_on(operator, tmp_path):
    @lowering(operator, since=21)
    def by_sum(x):
        return op.Sum(x, x, x)

    @lowering(operator)
    def by_product(x):
        return op.Mul(x, op.CastLike(op.Constant(value_float=3.0), x))

    for opset, written in ((20, "Mul"), (21, "Sum")):
        program = gradport.export(
            lambda x: operator(x), (torch.randn(3),), wrt="inputs", functions="inline", opset_version=opset
        )
        program.save(tmp_path / "model.onnx")
        names = {node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node}
        assert written in names and len({"Mul", "Sum"} & names) == 1


def test_a_row_that_gives_a_wrong_value_is_not_handed_out(operator):
    @lowering(operator)
    def twice(x):
        return op.Add(x, x)

    with pytest.raises(ExportError, match="differs"):
        gradport.export(lambda x: operator(x), (torch.randn(3),), wrt="inputs")


def test_rows_say_which_operators_they_write(operator):
    @lowering(operator)
    def triple(x):
        return op.Sum(x, x, x)

    assert rows()[-1].targets == (operator,)
