"""A scaled loss: the same training, and steps that are not finite are skipped."""

import numpy as np
import pytest
import torch
from gradport_runtime import Trainer, TrainingError

import gradport

from .models import batch_of, mlp, train_in_torch, trained


@pytest.fixture(scope="module", params=[128.0, "dynamic"])
def scaled(request, tmp_path_factory):
    model = mlp()
    path = tmp_path_factory.mktemp("training") / "bundle"
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    trained(model, optimizer, loss_scale=request.param, clip_grad_norm=0.5).save(path)
    return request.param, path


def test_losses_are_those_without_a_scale(scaled):
    model = mlp()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    batches = [batch_of(model, seed=seed) for seed in range(10)]
    losses = train_in_torch(model, optimizer, batches, clip=0.5)
    trainer = Trainer(scaled[1])
    found = [trainer.step(input=x.numpy(), target=y.numpy())["loss"] for x, y in batches]
    assert found == pytest.approx(losses, rel=1e-5)


def test_gradients_are_those_of_the_scaled_loss(scaled):
    scale, path = scaled
    model = mlp()
    x, y = batch_of(model)
    torch.nn.functional.cross_entropy(model(x), y).backward()
    found = Trainer(path).gradients(input=x.numpy(), target=y.numpy())["0.weight"]
    wanted = model[0].weight.grad.numpy() * (65536.0 if scale == "dynamic" else scale)
    assert found == pytest.approx(wanted, rel=1e-4, abs=1e-4 * float(np.abs(wanted).max()))


def test_a_step_that_is_not_finite_changes_nothing_but_the_scale(scaled):
    scale, path = scaled
    trainer = Trainer(path)
    x, y = batch_of(mlp())
    trainer.step(input=x.numpy(), target=y.numpy())
    before = trainer.state()
    wrong = np.full((6, 4), np.nan, np.float32)
    if scale != "dynamic":
        with pytest.raises(TrainingError):
            trainer.step(input=wrong, target=y.numpy())
        return
    assert np.isnan(trainer.step(input=wrong, target=y.numpy())["loss"])
    after = trainer.state()
    changed = {name for name in after if not np.array_equal(after[name], before[name])}
    assert changed == {"loss_scale.scale", "loss_scale.good_steps"}
    assert after["loss_scale.scale"] == 32768 and after["loss_scale.good_steps"] == 0
    trainer.step(input=x.numpy(), target=y.numpy())
    assert trainer.state()["loss_scale.good_steps"] == 1


def test_the_scale_grows_after_2000_good_steps(scaled):
    scale, path = scaled
    if scale != "dynamic":
        return
    trainer = Trainer(path)
    trainer.load({"loss_scale.good_steps": np.array(1999)})
    x, y = batch_of(mlp())
    trainer.step(input=x.numpy(), target=y.numpy())
    assert trainer.state()["loss_scale.scale"] == 131072 and trainer.state()["loss_scale.good_steps"] == 0


@pytest.mark.parametrize("scale", [0, -1.0, float("inf"), True, "auto"])
def test_another_scale_is_refused(scale):
    model = mlp()
    with pytest.raises(gradport.SpecError, match="loss_scale="):
        trained(model, torch.optim.SGD(model.parameters(), lr=0.1), loss_scale=scale)
