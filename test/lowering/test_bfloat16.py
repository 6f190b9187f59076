"""bfloat16 inside a graph runs where the runtime has no kernels for it: in float32, rounded after each node."""

import torch

import gradport


class Autocast(torch.nn.Module):
    """Two layers under autocast."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))

    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            return self.layers(x).float()


def test_autocast_runs_and_rounds():
    model = Autocast()
    subject = gradport.Subject(model, torch.randn(4, 6), wrt="all", dynamic_shapes={"x": {0: "batch"}})
    program = gradport.export(subject, functions="inline")
    assert gradport.verify(program, subject, sizes={"batch": (1, 5)}).ok
    x = torch.randn(5, 6)
    found = program.run_named({"x": x, "cotangent_output": torch.ones(5, 3)})["output"]
    assert torch.equal(found, found.bfloat16().float())  # rounded, as eager's are
    torch.testing.assert_close(found, model(x).detach(), rtol=2e-2, atol=2e-2)


def test_every_rounding_is_kept():
    """A sum in bfloat16 loses what float32 would keep."""

    def lossy(x):
        return (x.bfloat16() + 1.0 - 1.0).float()

    program = gradport.export(lossy, torch.tensor([0.001, 0.5]))
    assert torch.equal(program.run(torch.tensor([0.001, 0.5]))[0], torch.tensor([0.0, 0.5]))


def test_muon():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 6, bias=False), torch.nn.Tanh(), torch.nn.Linear(6, 3, bias=False))
    optimizer = torch.optim.Muon(net.parameters(), lr=1e-2)
    feeds = [(torch.randn(5, 4), torch.randn(5, 3)) for _ in range(20)]
    program = gradport.export_step(
        net, feeds[0][0], optimizer=optimizer, loss=torch.nn.functional.mse_loss, targets=feeds[0][1]
    )
    state = program.state()
    for x, target in feeds:
        found = program.run_named({"input": x, "target": target, "lr": torch.tensor(1e-2), **state})
        state = {spec.of: found[spec.name] for spec in program.outputs if spec.role == "new_state"}
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(net(x), target).backward()
        optimizer.step()
    for name, parameter in net.named_parameters():
        # twenty steps of at most lr each, whose directions agree to bfloat16's 8 bits
        torch.testing.assert_close(state[name], parameter.detach(), rtol=0, atol=20 * 1e-2 * 2**-6)
