"""Subject and input specs."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import gradport
from gradport.eager.inputs import with_example
from gradport.subject.spec import DTYPES, parse_spec


class Fn(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, g):
        return g * 2


def test_a_function_and_its_apply_mean_the_same():
    assert gradport.Subject(Fn.apply).target is Fn
    assert gradport.Subject(Fn).name == gradport.Subject(Fn.apply).name == "Fn"


def test_a_lone_tensor_is_a_tuple_and_a_list_too():
    x = torch.ones(2)
    assert gradport.Subject(Fn, x).args == (x,)
    assert gradport.Subject(Fn, [x]).args == (x,)
    assert gradport.Subject(Fn, x, targets=x).targets == (x,)


def test_it_is_frozen_equal_by_identity_and_replaceable():
    subject = gradport.Subject(Fn, torch.ones(2))
    assert subject != gradport.Subject(Fn, subject.args)
    with pytest.raises(AttributeError):
        subject.name = "other"
    assert subject.replace(wrt="inputs").wrt == "inputs"
    assert subject.wrt is None
    assert subject.replace(name="other").name == "other"


def test_what_is_given_beside_a_subject_overrides_it():
    subject = gradport.Subject(Fn, torch.ones(2), wrt="inputs")
    assert [s.role for s in gradport.export(subject).outputs] == ["output", "gradient"]
    assert gradport.export(subject, torch.ones(5)).inputs[0].shape == (5,)


def test_a_spec_stands_for_a_tensor_and_its_names_are_dynamic():
    subject = gradport.Subject(torch.nn.Embedding(118, 4), gradport.tensor("i64[atoms:5]@0..118"))
    example = with_example(subject)
    assert example.args[0].shape == (5,)
    assert example.dynamic_shapes == {"input": {0: "atoms"}}
    program = gradport.export(subject, wrt="parameters")
    assert program.inputs[0].shape == ("atoms",)


def test_names_without_an_example_size_get_sizes_of_their_own():
    example = with_example(gradport.Subject(lambda a, b: a, (gradport.tensor("f32[m]"), gradport.tensor("f32[n]"))))
    assert example.args[0].shape != example.args[1].shape


@given(
    st.sampled_from(sorted(DTYPES)),
    st.lists(st.one_of(st.integers(0, 64), st.tuples(st.sampled_from("abc"), st.integers(1, 9))), max_size=4),
)
def test_every_spec_reads_back(dtype, dims):
    text = f"{dtype}[{','.join(str(d) if isinstance(d, int) else f'{d[0]}:{d[1]}' for d in dims)}]"
    spec = parse_spec(text)
    assert spec.dtype_name == DTYPES[dtype]
    assert [(d.name, d.size) for d in spec.dims] == [(None, d) if isinstance(d, int) else d for d in dims]


@pytest.mark.parametrize(
    "text", ["f32", "f32[", "f31[2]", "f32[-1]", "f32[2]@", "f32[2]@2..1", "bool[2]@0..1", "f32[a:b]"]
)
def test_what_does_not_parse_is_refused_with_the_grammar(text):
    with pytest.raises(gradport.SpecError, match=r"does not parse.*write for example"):
        gradport.tensor(text)


@pytest.mark.parametrize(
    ("shapes", "reason"),
    [
        ({"y": {0: "n"}}, "not an input"),
        ({"x": {2: "n"}}, "which has 1"),
        (({0: "n"}, None), "2 entries"),
        ({"x": {0: 3}}, "fixes dimension 0"),
        ({"x": {0: 1.5}}, "a dimension is None"),
        (3, "must be a dict or a tuple"),
    ],
)
def test_dynamic_shapes_that_do_not_fit_are_refused(shapes, reason):
    with pytest.raises(gradport.SpecError, match=reason):
        gradport.export(Fn, torch.ones(2), dynamic_shapes=shapes)


@pytest.mark.parametrize("shapes", [{"x": {0: "n"}}, ({0: "n"},), {"x": {0: torch.export.Dim("n")}}, {"x": ["n"]}])
def test_dynamic_shapes_in_every_form(shapes):
    program = gradport.export(Fn, torch.ones(3), wrt="inputs", dynamic_shapes=shapes)
    assert [spec.shape for spec in (*program.inputs, *program.outputs)] == [("n",)] * 4


def test_one_name_is_one_size():
    with pytest.raises(gradport.SpecError, match="one name is one size"):
        gradport.export(lambda a, b: a, (torch.ones(2), torch.ones(3)), dynamic_shapes=({0: "n"}, {0: "n"}))


def test_inputs_by_strategy_by_list_and_by_callable():
    def positive(generator, sizes):
        return (torch.rand(sizes["n"], generator=generator) + 0.5,), {}, ()

    for inputs in ({"x": [0.5, 1.5]}, {"x": (0.5, 1.5)}, {"x": st.floats(0.5, 1.5, width=32)}, positive):
        subject = gradport.Subject(torch.log, gradport.tensor("f32[n]@1..2"), wrt="inputs", inputs=inputs).replace(
            target=lambda x: torch.log(x)
        )
        program = gradport.export(subject)
        assert gradport.verify(program, subject).ok
