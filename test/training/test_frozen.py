"""Frozen weights in 16, 8 and 4 bits: trained beside the weights that they stand for, and packed in the file."""

import onnxruntime
import pytest
import torch
from gradport_runtime import Trainer
from hypothesis import given, settings
from hypothesis import strategies as st

import gradport
from gradport.lowering.passes.packed_weights import PackedForm, pack

FORMS = ["float16", "int8", "int4"]


class Adapter(torch.nn.Module):
    """A frozen layer with a trained low-rank one beside it."""

    def __init__(self, size):
        super().__init__()
        self.layer = torch.nn.Linear(size, size).requires_grad_(False)
        self.down, self.up = torch.nn.Linear(size, 2, bias=False), torch.nn.Linear(2, size, bias=False)

    def forward(self, x):
        return self.layer(x) + self.up(self.down(x))


class Net(torch.nn.Module):
    """The embedding is the weight of the output, too."""

    def __init__(self, size=40, vocabulary=50):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = torch.nn.Embedding(vocabulary, size).requires_grad_(False)
        self.one, self.other = Adapter(size), Adapter(size)

    def forward(self, x):
        hidden = self.other(torch.tanh(self.one(self.embedding(x))))
        return (hidden @ self.embedding.weight.T).mean(1)


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 50, (3, 5), generator=generator), torch.randint(0, 50, (3,), generator=generator)


@pytest.fixture(scope="module", params=FORMS)
def bundle(request, tmp_path_factory):
    model = Net()
    before = model.state_dict()
    x, y = batch()
    training = gradport.export_training(
        model,
        x,
        optimizer=torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2),
        loss=torch.nn.functional.cross_entropy,
        targets=y,
        frozen=request.param,
        dynamic_shapes={"x": {0: "batch", 1: "length"}, "target": {0: "batch"}},
    )
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    path = tmp_path_factory.mktemp("frozen") / "bundle"
    training.save(path)
    return request.param, path


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(FORMS), st.integers(1, 5), st.integers(1, 100), st.integers(0, 99))
def test_a_packed_weight_is_as_near_as_its_bits_allow(form, rows, columns, seed):
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    packed = pack(weight, PackedForm(form))
    error = (packed.weight - weight).abs().max() / weight.abs().max()
    assert error <= {"float16": 2**-11, "int8": 0.51 / 127, "int4": 0.51 / 7}[form]


def test_a_row_of_zeros_stays_zero():
    for form in FORMS:
        assert not pack(torch.zeros(2, 40), PackedForm(form)).weight.any()


def test_training_has_the_losses_of_torch_on_the_weights_that_are_stored(bundle):
    form, path = bundle
    model = Net()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (torch.nn.Linear, torch.nn.Embedding)) and not module.weight.requires_grad:
                module.weight.copy_(pack(module.weight, PackedForm(form)).weight)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    trainer = Trainer(path)
    for seed in range(10):
        x, y = batch(seed)
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        assert trainer.step(x=x.numpy(), target=y.numpy())["loss"] == pytest.approx(float(loss.detach()), rel=1e-5)
    model.eval()
    found = trainer.predict(x=x.numpy())["output"]
    assert found == pytest.approx(model(x).detach().numpy(), rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_the_weights_are_packed_on_disk_and_lie_there_once(form, tmp_path):
    model = Net(size=256, vocabulary=400)
    x, y = batch()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    loss = torch.nn.functional.cross_entropy
    options = {"optimizer": optimizer, "loss": loss, "targets": y, "verify": False}
    gradport.export_training(model, x, frozen=form, **options).save(tmp_path / "bundle")
    embedding, layers = 400 * 256, 2 * 256 * 256
    size = (tmp_path / "bundle" / "frozen.safetensors").stat().st_size
    numbers = {"float16": 2.0, "int8": 1.125, "int4": 0.625}[form]
    again = embedding * 0.5 if form == "int4" else 0  # its rows are gathered from bytes, its columns from int4
    assert size < (embedding + layers) * numbers + again + 8192
    for name in ("gradients", "evaluate", "predict", "inference"):
        assert (tmp_path / "bundle" / f"{name}.onnx").stat().st_size < 60_000


def test_an_exported_model_has_its_frozen_weights_beside_it(bundle, tmp_path):
    _, path = bundle
    trainer = Trainer(path)
    trainer.export(tmp_path / "model.onnx")
    x, _ = batch()
    found = onnxruntime.InferenceSession(tmp_path / "model.onnx").run(None, {"x": x.numpy()})[0]
    assert found == pytest.approx(trainer.predict(x=x.numpy())["output"], rel=1e-3, abs=1e-4)


def test_a_form_that_does_not_exist_is_refused():
    model = Net()
    x, y = batch()
    options = {"optimizer": torch.optim.SGD(model.parameters(), lr=0.1), "loss": torch.nn.functional.cross_entropy}
    with pytest.raises(gradport.SpecError, match="frozen='int2'"):
        gradport.export_training(model, x, targets=y, frozen="int2", **options)
    with pytest.raises(gradport.SpecError, match="opset_version is 18"):
        gradport.export_training(model, x, targets=y, frozen="int8", opset_version=18, **options)
    model.requires_grad_(True)
    options["optimizer"] = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(gradport.SpecError, match="no Linear or Embedding"):
        gradport.export_training(model, x, targets=y, frozen="int8", **options)


@pytest.mark.parametrize("form", ["float16", *(pytest.param(form, marks=pytest.mark.corpus) for form in FORMS[1:])])
def test_forward_and_backward_unpack_a_weight_separately(form):
    """Otherwise the weight in 32 bits would live from one to the other, and all layers' at once."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(*(Adapter(40) for _ in range(3)))
    training = gradport.export_training(
        model,
        torch.randn(2, 40),
        optimizer=torch.optim.SGD([one for one in model.parameters() if one.requires_grad], lr=0.1),
        loss=lambda result: result.square().mean(),
        frozen=form,
        verify=False,
    )
    graph = training.programs["gradients"].model.graph
    unpacked = [node for node in graph if node.outputs[0].name and _is_unpacking(node)]
    assert len(unpacked) == 3 + 2  # the first layer needs no gradient of its input
    assert all(len(node.outputs[0].uses()) == 1 for node in unpacked)


def _is_unpacking(node):
    if node.op_type == "DequantizeLinear":
        return True
    source = node.inputs[0].producer() if node.op_type == "Cast" else None
    return source is not None and source.inputs[0].name.endswith(".float16")
