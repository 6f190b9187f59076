"""A training step in ONNX Runtime goes where torch goes, and comes back."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F

import gradport

LR = 1e-2

OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, LR),
    "SGD-momentum": lambda p: torch.optim.SGD(p, LR, momentum=0.9, nesterov=True, weight_decay=0.01),
    "Adam": lambda p: torch.optim.Adam(p, LR),
    "Adam-amsgrad": lambda p: torch.optim.Adam(p, LR, amsgrad=True, maximize=True),
    "AdamW": lambda p: torch.optim.AdamW(p, LR),
    "RMSprop": lambda p: torch.optim.RMSprop(p, LR, momentum=0.5, centered=True),
    "Adagrad": lambda p: torch.optim.Adagrad(p, LR, lr_decay=0.1),
    "Adadelta": lambda p: torch.optim.Adadelta(p, 0.5),
    "Adamax": lambda p: torch.optim.Adamax(p, LR),
    "NAdam": lambda p: torch.optim.NAdam(p, LR),
    "RAdam": lambda p: torch.optim.RAdam(p, LR),
    "Adafactor": lambda p: torch.optim.Adafactor(p, LR),
    "Rprop": lambda p: torch.optim.Rprop(p, LR),
    "ASGD": lambda p: torch.optim.ASGD(p, LR),
}


class Counted(torch.optim.Optimizer):
    """One of a user's own, whose count of steps is a Python number."""

    def __init__(self, params, lr=LR):
        super().__init__(params, {"lr": lr, "beta": 0.9})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["count"], state["mean"] = 0, torch.zeros_like(p)
                state["count"] += 1
                state["mean"].mul_(group["beta"]).add_(p.grad, alpha=1 - group["beta"])
                scale = math.sqrt(1 - group["beta"] ** state["count"])
                p.add_(state["mean"], alpha=-group["lr"] / max(scale, 0.1))


OPTIMIZERS["Counted"] = Counted
OPTIMIZERS["SGD, dampened"] = lambda p: torch.optim.SGD(p, LR, momentum=0.9, dampening=0.3, weight_decay=0.01)


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))


def squared(result, target):
    return (result - target).square().mean()


def batches(count, generator, shape=(7, 4)):
    for _ in range(count):
        yield torch.randn(shape, generator=generator), torch.randn(shape[0], 1, generator=generator)


def exported(net, optimizer, **options):
    example = (torch.randn(5, 4), torch.randn(5, 1))
    return gradport.export_step(
        net,
        example[0],
        optimizer=optimizer,
        loss=squared,
        targets=example[1],
        dynamic_shapes={"input": {0: "batch"}, "target": {0: "batch"}},
        **options,
    )


def trained(program, feeds, lr=LR):
    """Runs step after step; the loss of each and the last state."""
    state, losses = {}, []
    for x, target in feeds:
        found = program.run_named({"input": x, "target": target, "lr": torch.tensor(lr), **state})
        losses.append(float(found["loss"]))
        state = {name.removeprefix("new."): value for name, value in found.items() if name.startswith("new.")}
    return losses, state


def stepped(net, optimizer, feeds, clip=None, accumulate=1):
    for count, (x, target) in enumerate(feeds, 1):
        squared(net(x), target).backward()
        if count % accumulate == 0:
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(net.parameters(), clip)
            optimizer.step()
            optimizer.zero_grad()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_stay_where_torch_goes(name):
    net, make = network(), OPTIMIZERS[name]
    program = exported(net, make(net.parameters()))
    lr = make(net.parameters()).param_groups[0]["lr"]
    feeds = list(batches(30, torch.Generator().manual_seed(1)))
    _, state = trained(program, feeds, lr)
    moved = copy.deepcopy(net)
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter.mul_(1 + torch.finfo(torch.float32).eps)
    for twin in (net, moved):
        stepped(twin, make(twin.parameters()), feeds)
    own = max(float((a - b).abs().max()) for a, b in zip(net.parameters(), moved.parameters(), strict=True))
    for key, parameter in net.named_parameters():
        assert float((state[key] - parameter).abs().max()) <= 10 * max(own, 1e-7), key


def test_names_roles_and_starting_state():
    net = network()
    net[0].bias.requires_grad_(False)
    program = exported(net, torch.optim.Adam(net.parameters(), LR), outputs="all")
    roles = [(spec.name, spec.role) for spec in program.inputs]
    assert roles[:2] == [("input", "argument"), ("target", "target")]
    assert roles[2:5] == [("0.weight", "state"), ("2.weight", "state"), ("2.bias", "state")]
    assert roles[-1] == ("lr", "lr")
    assert ("optim.0.weight.exp_avg", "state") in roles
    outputs = {spec.name: spec for spec in program.outputs}
    assert list(outputs)[:3] == ["loss", "output", "new.0.weight"]
    assert outputs["new.optim.2.bias.step"].role == "new_state"
    assert outputs["new.optim.2.bias.step"].of == "optim.2.bias.step"
    assert torch.equal(program.state()["0.weight"], net[0].weight)
    assert "0.bias" not in program.state() and "0.bias" in program.model.graph.initializers
    x, target = torch.randn(3, 4), torch.randn(3, 1)
    assert len(program.run(x, target, torch.tensor(LR))) == len(outputs)


def test_saved_and_loaded_it_starts_where_it_did(tmp_path):
    net = network()
    program = exported(net, torch.optim.Adam(net.parameters(), LR))
    program.save(tmp_path / "step.onnx")
    again = gradport.load(tmp_path / "step.onnx")
    feeds = list(batches(2, torch.Generator().manual_seed(0)))
    assert trained(again, feeds)[0] == trained(program, feeds)[0]
    assert again.state().keys() == program.state().keys()


@pytest.mark.parametrize("clip", [None, 0.05])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_clipping_and_accumulation(clip, accumulate):
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), LR, momentum=0.5)
    program = exported(net, optimizer, clip_grad_norm=clip, accumulate=accumulate)
    feeds = list(batches(7, torch.Generator().manual_seed(2)))
    _, state = trained(program, feeds)
    stepped(net, optimizer, feeds, clip, accumulate)
    for key, parameter in net.named_parameters():
        torch.testing.assert_close(state[key], parameter.detach())
    if accumulate == 3:  # the seventh gradient waits for two more
        torch.testing.assert_close(state["accumulated.0.weight"], net[0].weight.grad)
        assert int(state["accumulated.count"]) == 1


def test_parameter_groups_have_a_rate_each():
    net = network()
    groups = [{"params": net[0].parameters(), "lr": 0.1, "name": "body"}, {"params": net[2].parameters(), "lr": 0.2}]
    program = exported(net, torch.optim.SGD(groups))
    assert [spec.name for spec in program.inputs if spec.role == "lr"] == ["lr_body", "lr_1"]
    x, target = torch.randn(2, 4), torch.randn(2, 1)
    rates = {"lr_body": torch.tensor(0.0), "lr_1": torch.tensor(0.5)}
    found = program.run_named({"input": x, "target": target, **rates})
    assert torch.equal(found["new.0.weight"], net[0].weight)
    assert not torch.equal(found["new.2.weight"], net[2].weight)


def test_training_goes_on_in_torch():
    net, make = network(), OPTIMIZERS["AdamW"]
    program = exported(net, make(net.parameters()))
    feeds = list(batches(6, torch.Generator().manual_seed(3)))
    reference = copy.deepcopy(net)
    stepped(reference, make(reference.parameters()), feeds)
    _, state = trained(program, feeds[:3])
    optimizer = make(net.parameters())
    gradport.write_back(state, net, optimizer)
    stepped(net, optimizer, feeds[3:])
    for one, other in zip(net.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    again = exported(net, optimizer)  # and from there in a graph again: the optimizer's state is the starting state
    assert torch.equal(again.state()["optim.0.weight.step"], torch.tensor(6.0))


def test_dampening_is_left_out_of_the_first_step_alone():
    def make(parameters):
        return torch.optim.SGD(parameters, LR, momentum=0.9, dampening=0.5)

    net = network()
    program = exported(net, make(net.parameters()), accumulate=2)
    assert program.state()["optim.0.weight.began"] == 0
    feeds = list(batches(7, torch.Generator().manual_seed(5)))
    before, after = copy.deepcopy(net), copy.deepcopy(net)
    optimizer = make(before.parameters())
    gradport.write_back(trained(program, feeds[:1])[1], before, optimizer)
    assert not optimizer.state  # not begun, as torch has it
    optimizer = make(after.parameters())
    gradport.write_back(trained(program, feeds[:3])[1], after, optimizer)
    assert set(optimizer.state[after[0].weight]) == {"momentum_buffer"}
    stepped(net, make(net.parameters()), feeds[:3], accumulate=2)
    for one, other in zip(after.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_a_number_comes_back_as_a_number():
    net = network()
    optimizer = Counted(net.parameters())
    program = exported(net, optimizer)
    x, target = torch.randn(2, 4), torch.randn(2, 1)
    found = program.run_named({"input": x, "target": target, "lr": torch.tensor(LR)})
    gradport.write_back(found, net, optimizer)
    assert optimizer.state[net[0].weight]["count"] == 1
    assert isinstance(optimizer.state[net[0].weight]["count"], int)


def test_buffers_and_dropout_move_too():
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1)
    )
    program = exported(net, torch.optim.SGD(net.parameters(), LR))
    assert {"1.running_mean", "1.running_var", "1.num_batches_tracked"} <= program.state().keys()
    assert not program.dropped_updates
    (drawn,) = program.draw(0, batch=6)
    x, target = torch.randn(6, 4), torch.randn(6, 1)
    feeds = {"input": x, "target": target, "lr": torch.tensor(LR), "random_0": drawn}
    found = program.run_named(feeds)
    assert int(found["new.1.num_batches_tracked"]) == 1
    net(x)
    torch.testing.assert_close(found["new.1.running_mean"], net[1].running_mean)
    assert torch.equal(program.run_named(feeds)["loss"], found["loss"])  # a step can be repeated


class Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return (x * 8).round() / 8

    @staticmethod
    def backward(ctx, g):
        return g


class Quantized(torch.nn.Linear):
    def forward(self, x):
        return F.linear(x, Rounded.apply(self.weight), self.bias)


def test_a_custom_backward_is_used():
    torch.manual_seed(0)
    net = torch.nn.Sequential(Quantized(4, 8), torch.nn.Tanh(), Quantized(8, 1))
    optimizer = torch.optim.SGD(net.parameters(), LR)
    program = exported(net, optimizer)
    assert {info.phase for info in program.functions} == {"forward", "backward"}
    feeds = list(batches(5, torch.Generator().manual_seed(4)))
    _, state = trained(program, feeds)
    start = net[0].weight.detach().clone()
    stepped(net, optimizer, feeds)
    torch.testing.assert_close(state["0.weight"], net[0].weight.detach())
    assert not torch.equal(start, net[0].weight)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: torch.optim.LBFGS(p), "LBFGS cannot be exported"),
        (lambda p: torch.optim.SparseAdam(p), "SparseAdam cannot be exported"),
        (lambda p: torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], LR), "are not parameters of"),
    ],
)
def test_what_cannot_be_carried_is_named(make, said):
    net = network()
    with pytest.raises(gradport.SpecError, match=said):
        exported(net, make(list(net.parameters())))


def test_a_step_needs_a_loss_and_write_back_its_names():
    net = network()
    with pytest.raises(gradport.SpecError, match="needs a loss"):
        gradport.export_step(net, torch.randn(2, 4), optimizer=torch.optim.SGD(net.parameters(), LR))
    before = net[0].weight.detach().clone()
    with pytest.raises(gradport.SpecError, match="not a state of Sequential"):
        gradport.write_back({"new.0.weight": before + 1, "new.9.weight": before}, net)
    assert torch.equal(net[0].weight, before)
