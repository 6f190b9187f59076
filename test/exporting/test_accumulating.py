"""Gradients that add up over several runs: counters and weights go where torch goes, and a wrong step is refused."""

import copy

import pytest
import torch
import torch.nn.functional as F

import gradport
from gradport.eager.step import Step

LR = 0.1

OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, LR),
    "Adam": lambda p: torch.optim.Adam(p, LR),
    "AdamW": lambda p: torch.optim.AdamW(p, LR),
    "RMSprop": lambda p: torch.optim.RMSprop(p, LR),
    "Adagrad": lambda p: torch.optim.Adagrad(p, LR),
    "NAdam": lambda p: torch.optim.NAdam(p, LR),
    "RAdam": lambda p: torch.optim.RAdam(p, LR),
}


class Rezero(torch.nn.Module):
    """A residual block whose weight begins as a zero without dimensions."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(2, 2)
        self.scale = torch.nn.Parameter(torch.zeros(()))

    def forward(self, input):
        return input + self.scale * self.linear(input)


def exported(net, make, accumulate, shape=(3, 1)):
    return gradport.export_step(
        net,
        torch.randn(shape[0], 2),
        optimizer=make(net.parameters()),
        loss=F.mse_loss,
        targets=torch.randn(shape),
        accumulate=accumulate,
    )


def run(program, count, shape=(3, 1)):
    """The state after each of `count` runs, and what was fed."""
    generator = torch.Generator().manual_seed(0)
    state, states, feeds = program.state(), [], []
    for _ in range(count):
        x, y = torch.randn(shape[0], 2, generator=generator), torch.randn(shape, generator=generator)
        found = program.run_named({"input": x, "target": y, "lr": torch.tensor(LR), **state})
        state = {name.removeprefix("new."): value for name, value in found.items() if name.startswith("new.")}
        states.append(state)
        feeds.append((x, y))
    return states, feeds


def train(net, make, feeds, accumulate):
    optimizer = make(net.parameters())
    for count, (x, y) in enumerate(feeds, 1):
        F.mse_loss(net(x), y).backward()
        if count % accumulate == 0:
            optimizer.step()
            optimizer.zero_grad()
    return optimizer


@pytest.mark.parametrize("accumulate", [2, 4])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_counter_and_the_weights_are_those_of_torch(name, accumulate):
    torch.manual_seed(0)
    net, make = torch.nn.Linear(2, 1), OPTIMIZERS[name]
    program = exported(copy.deepcopy(net), make, accumulate)
    states, feeds = run(program, 2 * accumulate + 1)
    optimizer = train(net, make, feeds, accumulate)
    torch.testing.assert_close(states[-1]["weight"], net.weight.detach(), rtol=1e-4, atol=1e-5)
    if "optim.weight.step" in states[-1]:
        assert float(states[-1]["optim.weight.step"]) == float(optimizer.state[net.weight]["step"]) == 2
        counted = [float(state["optim.weight.step"]) for state in states]
        assert counted == [float(count // accumulate) for count in range(1, 2 * accumulate + 2)]


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_parameter_that_begins_as_a_zero_without_dimensions_moves(accumulate):
    torch.manual_seed(0)
    net = Rezero()
    program = exported(copy.deepcopy(net), OPTIMIZERS["SGD"], accumulate, (3, 2))
    states, feeds = run(program, 3 * accumulate, (3, 2))
    train(net, OPTIMIZERS["SGD"], feeds, accumulate)
    assert float(net.scale) != 0
    torch.testing.assert_close(states[-1]["scale"], net.scale.detach())


def test_the_state_is_never_taken_for_a_constant():
    """Every state input is read by the graph as an input: the model has no initializer of its name."""
    program = exported(torch.nn.Linear(2, 1), OPTIMIZERS["Adam"], 4)
    names = {spec.name for spec in program.inputs if spec.role == "state"}
    assert names and not names & set(program.model.graph.initializers)


def test_a_step_whose_counter_stands_still_is_refused(monkeypatch):
    moved = Step._accumulate_or_step

    def frozen(self, placed, gradients):
        found = moved(self, placed, gradients)
        if torch.compiler.is_compiling():
            for slot in found:
                if slot.name.endswith(".step"):
                    found[slot] = placed[slot] * 1
        return found

    monkeypatch.setattr(Step, "_accumulate_or_step", frozen)
    with pytest.raises(gradport.ExportError, match=r"new\.optim\.weight\.step"):
        exported(torch.nn.Linear(2, 1), OPTIMIZERS["Adam"], 4)


def test_a_step_that_goes_wrong_only_after_many_runs_is_refused(monkeypatch):
    """A count that starts anew one run too late shows itself in the second round."""
    moved = Step._accumulate_or_step

    def late(self, placed, gradients):
        found = moved(self, placed, gradients)
        if torch.compiler.is_compiling():
            for slot in found:
                if slot.name == "accumulated.count":
                    count = placed[slot] + 1
                    found[slot] = torch.where(count > self._accumulate, torch.zeros_like(count), count)
        return found

    monkeypatch.setattr(Step, "_accumulate_or_step", late)
    with pytest.raises(gradport.ExportError, match=r"was not exported"):
        exported(torch.nn.Linear(2, 1), OPTIMIZERS["SGD"], 3)


def test_the_free_run_is_followed(monkeypatch):
    """Each run alone agrees with torch from the state that the file gave, and yet the loss leaves torch's."""
    from gradport.proving import following

    after = following.Following.record

    def drifting(self, case, answer, results):
        spoiled = {n: v * 1.01 if n.startswith("new.") and v.is_floating_point() else v for n, v in results.items()}
        return after(self, case, answer, spoiled)

    monkeypatch.setattr(following.Following, "record", drifting)
    with pytest.raises(gradport.ExportError, match=r"after 2 successive runs (the loss|the state .*) is"):
        exported(torch.nn.Linear(2, 1), OPTIMIZERS["SGD"], 1)


def test_a_gradient_that_is_zero_by_theory_is_no_reason_to_refuse():
    """The bias before a batch norm: Adam divides rounding noise by its own size."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Flatten())
    gradport.export_step(
        net,
        torch.randn(4, 1, 5, 5),
        optimizer=torch.optim.Adam(net.parameters(), 1e-2),
        loss=lambda result, target: F.cross_entropy(result, target),
        targets=torch.randint(0, 36, (4,)),
    )


def test_the_same_operation_elsewhere_keeps_the_optimizer():
    net = torch.nn.Linear(2, 1)
    subject = gradport.Subject(net, torch.randn(3, 2), loss=F.mse_loss, targets=torch.randn(3, 1))
    step = Step(subject, torch.optim.Adam(net.parameters()), accumulate=2, clip_grad_norm=1.0)
    moved = step.at({})
    assert isinstance(moved, Step)
    assert moved.state_slots() == step.state_slots()
    assert moved.proof_runs == 6
