"""A bundle trains as torch does, and says what it cannot carry."""

import copy
import json

import numpy as np
import onnx
import pytest
import torch
from gradport_runtime import Trainer

import gradport

from .models import accuracy, batch_of, cnn, mlp, train_in_torch, trained


def arrays(x, y):
    return {"input": x.numpy(), "target": y.numpy()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A bundle of the MLP under AdamW with clipping, a schedule and a metric."""
    model = mlp()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=6)
    training = trained(
        model, optimizer, metrics={"accuracy": accuracy}, clip_grad_norm=0.5, scheduler=scheduler, steps=10
    )
    path = tmp_path_factory.mktemp("training") / "bundle"
    training.save(path)
    return path


def test_twenty_steps_have_the_losses_of_torch(folder):
    model = mlp()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=6)
    batches = [batch_of(model, rows=5 + step % 3, seed=step) for step in range(20)]
    losses = train_in_torch(model, optimizer, batches, clip=0.5, scheduler=scheduler)
    trainer = Trainer(folder)
    found = [trainer.step(arrays(*batch)) for batch in batches]
    assert [one["loss"] for one in found] == pytest.approx(losses, rel=1e-5)
    x, y = batches[0]
    model.eval()
    assert trainer.predict(input=x.numpy())["output"] == pytest.approx(model(x).detach().numpy(), abs=1e-5)
    evaluated = trainer.evaluate(arrays(x, y))
    assert evaluated["loss"] == pytest.approx(float(torch.nn.functional.cross_entropy(model(x), y)), rel=1e-4)
    assert evaluated["accuracy"] == pytest.approx(float(accuracy(model(x), y)))


def test_the_state_goes_back_into_torch(folder):
    trainer = Trainer(folder)
    model = mlp()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    batches = [batch_of(model, seed=step) for step in range(4)]
    for batch in batches[:3]:
        trainer.step(arrays(*batch), lr=1e-2)
    gradport.load_training(folder).write_back(trainer.state(), model, optimizer)
    loss = train_in_torch(model, optimizer, batches[3:], clip=0.5)
    assert trainer.step(arrays(*batches[3]), lr=1e-2)["loss"] == pytest.approx(loss[0], rel=1e-5)
    assert optimizer.state[model[0].weight]["step"] == 4


def test_buffers_and_draws_are_part_of_the_training(tmp_path):
    model = cnn()
    trained(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)).save(tmp_path / "bundle")
    trainer = Trainer(tmp_path / "bundle", seed=3)
    x, y = batch_of(model)
    before = trainer.state()["1.running_mean"]
    first = trainer.step(arrays(x, y))["loss"]
    assert not np.array_equal(before, trainer.state()["1.running_mean"])
    assert Trainer(tmp_path / "bundle", seed=3).step(arrays(x, y))["loss"] == first
    assert Trainer(tmp_path / "bundle", seed=4).step(arrays(x, y))["loss"] != first


def test_the_user_s_objects_stay_as_they_are():
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict(), scheduler.state_dict()))
    training = trained(model, optimizer, scheduler=scheduler, steps=5)
    after = (model.state_dict(), optimizer.state_dict(), scheduler.state_dict())
    assert str(before) == str(after) and model.training
    assert training.manifest["schedule"]["lr"] == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001])


def test_a_bundle_is_read_back(folder):
    again = gradport.load_training(folder)
    assert {name: tensor.shape for name, tensor in again.state().items()} == {
        name: array.shape for name, array in map(lambda n: (n, Trainer(folder).state()[n]), again.state())
    }
    assert set(again.programs) == {"gradients", "apply", "evaluate", "predict"}


def test_the_manifest_fits_its_schema(folder):
    import jsonschema

    from gradport.training.manifest import schema

    jsonschema.validate(json.loads((folder / "training.json").read_text()), schema())


def test_frozen_weights_lie_on_disk_once(tmp_path):
    model = torch.nn.Sequential(torch.nn.Embedding(100, 16), torch.nn.Linear(16, 3))
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    x, y = torch.randint(0, 100, (5,)), torch.randint(0, 3, (5,))
    loss = torch.nn.functional.cross_entropy
    training = gradport.export_training(model, x, optimizer=optimizer, loss=loss, targets=y)
    training.save(tmp_path / "bundle")
    assert (tmp_path / "bundle" / "frozen.safetensors").stat().st_size >= 100 * 16 * 4
    sizes = {file.name: file.stat().st_size for file in (tmp_path / "bundle").glob("*.onnx")}
    assert max(sizes.values()) < 100 * 16 * 4 + 20_000
    held = onnx.load(tmp_path / "bundle" / "gradients.onnx", load_external_data=False).graph.initializer
    assert any(tensor.external_data for tensor in held)
    assert Trainer(tmp_path / "bundle").step(input=x.numpy(), target=y.numpy())["loss"] == pytest.approx(
        float(loss(model(x), y).detach()), rel=1e-5
    )


def test_a_trained_model_is_exported_with_its_weights(folder, tmp_path):
    import onnxruntime

    trainer = Trainer(folder)
    x, y = batch_of(mlp())
    trainer.fit([arrays(x, y)] * 3, progress=False)
    trainer.export(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert np.array_equal(session.run(None, {"input": x.numpy()})[0], trainer.predict(input=x.numpy())["output"])
    onnx.checker.check_model(str(tmp_path / "model.onnx"))


def test_another_folder_is_not_replaced(folder, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(gradport.OutputError, match="is not a training bundle"):
        gradport.load_training(folder).save(tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("scheduler", "text"),
    [
        (lambda o: torch.optim.lr_scheduler.ReduceLROnPlateau(o), "needs a metric"),
        (lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=10), "changes (betas|momentum)"),
        (lambda o: "cosine", "give a torch.optim.lr_scheduler"),
    ],
)
def test_a_scheduler_that_cannot_be_recorded_is_refused_by_name(scheduler, text):
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters())
    with pytest.raises(gradport.SpecError, match=text):
        trained(model, optimizer, scheduler=scheduler(optimizer), steps=5)


def test_a_scheduler_needs_a_number_of_steps():
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters())
    with pytest.raises(gradport.SpecError, match="steps=None"):
        trained(model, optimizer, scheduler=torch.optim.lr_scheduler.StepLR(optimizer, 2))


def test_a_wrong_bundle_is_not_handed_out(monkeypatch):
    from gradport.eager.update import Update

    right = Update.__call__
    monkeypatch.setattr(
        Update,
        "__call__",
        lambda self, placed, gradients: {
            slot: value * (1.01 if self.numbers or slot.role == "state" else 1.0)
            for slot, value in right(self, placed, gradients).items()
        },
    )
    model = mlp()
    optimizer = torch.optim.AdamW(model.parameters())
    training = trained(model, optimizer, verify=False)
    monkeypatch.undo()
    from gradport.eager.dimensions import resolve_dimensions
    from gradport.eager.halves import Apply, Evaluate, Gradients, Predict
    from gradport.subject.subject import Subject
    from gradport.training.proof import prove_training

    x, y = batch_of(model)
    gradients = Gradients(Subject(model, x, loss=torch.nn.functional.cross_entropy, targets=y), optimizer)
    halves = gradients, Apply(gradients, None), Evaluate(gradients), Predict(gradients)
    with pytest.raises(gradport.ExportError, match="the optimizer's step 1"):
        prove_training(training, *halves, resolve_dimensions(gradients, None))
