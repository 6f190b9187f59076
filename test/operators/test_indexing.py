"""Reads and writes at index tensors, booleans and numbers, in values and gradients, static and dynamic."""

import onnx_ir as ir
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gradport

pytestmark = pytest.mark.corpus

SHAPE = (4, 3, 5)


def proved(target, *args, dynamic=True, wrt="inputs"):
    """Exports (which proves) and verifies at other sizes of the first dimension of the first argument."""
    shapes = ({0: "n"}, *(None for _ in args[1:])) if dynamic else None
    program = gradport.export(target, args, wrt=wrt, dynamic_shapes=shapes)
    evidence = gradport.verify(program, target, args, sizes={"n": (4, 5, 9)} if dynamic else None)
    assert evidence.ok, [finding.message for finding in evidence.findings]


@st.composite
def indices(draw):
    """An index of up to three axes: slices, whole index tensors that broadcast together, or one boolean mask."""
    sizes = draw(st.sampled_from([(2,), (3, 1), (1, 2), ()]))
    entries = []
    for size in SHAPE[: draw(st.integers(1, 3))]:
        kind = draw(st.sampled_from(["all", "slice", "tensor", "number"]))
        if kind == "all":
            entries.append(slice(None))
        elif kind == "slice":
            entries.append(slice(draw(st.integers(0, 1)), None, draw(st.integers(1, 2))))
        elif kind == "number":
            entries.append(draw(st.integers(-size, size - 1)))
        else:
            values = st.integers(-size, size - 1)
            count = 1
            for length in sizes:
                count *= length
            entries.append(torch.tensor(draw(st.lists(values, min_size=count, max_size=count))).reshape(sizes))
    return tuple(entries)


@settings(max_examples=15, deadline=None)
@given(indices(), st.booleans())
def test_reads(index, dynamic):
    proved(lambda x: x[index] * 2, torch.randn(SHAPE), dynamic=dynamic)


@settings(max_examples=15, deadline=None)
@given(indices(), st.booleans(), st.booleans())
def test_writes_and_accumulating_writes(index, dynamic, accumulate):
    value = torch.randn(()).expand(torch.zeros(SHAPE)[index].shape).contiguous()

    def write(x, v):
        y = x * 1
        if accumulate:
            y[index] += v
        else:
            y[index] = v
        return y.sin()

    tensors = [entry for entry in index if isinstance(entry, torch.Tensor)]
    flat = (
        [
            tuple(int(t.expand(torch.broadcast_shapes(*(t.shape for t in tensors))).reshape(-1)[i]) for t in tensors)
            for i in range(torch.broadcast_tensors(*tensors)[0].numel())
        ]
        if tensors
        else []
    )
    if len(set(flat)) < len(flat):
        return  # which of two writes to one place wins is not defined
    whole = value if value.shape[:1] != SHAPE[:1] or not dynamic else value[:1].expand_as(value)[:1]
    proved(write, torch.randn(SHAPE), whole, dynamic=dynamic and whole.numel() == 1)


@settings(max_examples=12, deadline=None)
@given(st.sampled_from([(4,), (4, 3), (4, 3, 5)]), st.floats(-2, 2, width=32))
def test_writes_of_a_number_through_a_mask_are_a_where(shape, value):
    mask = torch.rand(shape) < 0.5

    def write(x):
        y = x * 1
        y[mask] = value
        return y

    program = gradport.export(write, torch.randn(SHAPE), wrt="inputs", functions="inline")
    kinds = {node.op_type for node in program.model.graph}
    assert "ScatterND" not in kinds
    assert "NonZero" not in kinds


def test_masks_that_follow_the_input():
    def write(x):
        y = x.clone()
        y[x < 0] = 0
        y[x > 1] = 1
        return y * x

    proved(write, torch.randn(SHAPE))


@settings(max_examples=12, deadline=None)
@given(st.integers(-3, 2), st.booleans())
def test_gather_and_scatter_along_every_dimension(dim, reduce):
    index = torch.randint(0, SHAPE[dim], SHAPE)

    def move(x):
        gathered = x.gather(dim, index)
        zeros = torch.zeros_like(x)
        return zeros.scatter_add(dim, index, gathered) if reduce else gathered

    proved(move, torch.randn(SHAPE), dynamic=False)


@settings(max_examples=9, deadline=None)
@given(st.integers(1, 4), st.integers(1, 3))
def test_a_scatter_whose_source_is_larger_than_its_index(rows, columns):
    index = torch.arange(rows * columns).reshape(rows, columns) % 4

    def scatter(x, src):
        return x.scatter_add(0, index, src)

    # torch itself gives no gradient of such a source
    proved(scatter, torch.randn(4, 3), torch.randn(5, 4), dynamic=False, wrt=["x"])


@settings(max_examples=12, deadline=None)
@given(st.permutations(range(4)), st.sampled_from([(1, 3, 1, 2), (2, 1, 1, 1), (2, 3, 4, 5)]), st.integers(-4, 3))
def test_squeeze_drops_ones_alone(order, shape, dim):
    def squeeze(x):
        return x.permute(order).squeeze(dim) * 2

    proved(squeeze, torch.randn(shape), dynamic=False)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_a_lone_number_in_a_tensor_indexes_by_value(dtype):
    def pick(x, i):
        return x[i] + x[:, i]

    proved(lambda x, i: pick(x, i), torch.randn(4, 4), torch.tensor(2, dtype=dtype), dynamic=False, wrt=["x"])


@pytest.mark.parametrize(
    ("places", "shape"),
    [
        ((torch.randint(0, 50, (8192,)),), (50, 64)),
        ((torch.randint(0, 5, (64, 128)), torch.randint(0, 3, (64, 128))), (5, 3, 64)),
        ((slice(None), torch.randint(0, 4, (8192,))), (64, 4)),
    ],
    ids=["rows", "two axes", "columns"],
)
def test_sums_over_equal_places_with_several_threads(places, shape):
    """ONNX Runtime's ScatterND loses values here: its threads add to one place at the same time."""
    x = torch.randn(shape, requires_grad=True)
    program = gradport.export(lambda x: x[places], x, wrt="inputs", functions="inline", verify=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 4
    session = onnxruntime.InferenceSession(ir.to_proto(program.model).SerializeToString(), options)
    cotangent = torch.randint(-4, 5, x[places].shape).float()  # whole numbers: each order of the sum is exact
    (right,) = torch.autograd.grad(x[places], x, cotangent)
    feeds = dict(zip([port.name for port in session.get_inputs()], (x.detach(), cotangent), strict=True))
    for _ in range(10):
        found = session.run(None, {name: tensor.numpy() for name, tensor in feeds.items()})[-1]
        assert torch.equal(torch.from_numpy(found), right)


@pytest.mark.parametrize("place", [-5, 4])
def test_an_index_out_of_range_is_an_error_where_places_are_summed(place):
    def add(x, row, column):
        return x.index_put((row, column), torch.ones(1), accumulate=True)

    index = torch.tensor([0])
    program = gradport.export(add, (torch.randn(4, 4), index, index), functions="inline")
    assert program.run(torch.zeros(4, 4), torch.tensor([-1]), torch.tensor([-2]))[0][3, 2] == 1
    with pytest.raises(Exception, match="indices element out of data bounds"):
        program.run(torch.zeros(4, 4), torch.tensor([1]), torch.tensor([place]))
