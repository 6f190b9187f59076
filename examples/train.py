"""A whole training step on stock ONNX Runtime: train there, come back to torch, go on, and export for inference."""

import torch

import gradport


def loss(result: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean squared error."""
    return (result - target).square().mean()


def main() -> None:
    """Learns a sine."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(1, 32), torch.nn.Tanh(), torch.nn.Dropout(0.1), torch.nn.Linear(32, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    step = gradport.export_step(
        model, gradport.tensor("f32[batch,1]"), optimizer=optimizer, loss=loss, targets=gradport.tensor("f32[batch,1]")
    )

    x = torch.linspace(-3, 3, 64).unsqueeze(1)
    state: dict[str, torch.Tensor] = {}  # the first run starts from the values in the file
    losses = []
    for count in range(200):
        (dropped,) = step.draw(count, batch=64)
        feeds = {"input": x, "target": x.sin(), "random_0": dropped, "lr": torch.tensor(1e-2)}
        found = step.run_named({**feeds, **state})
        losses.append(found["loss"].item())
        state = {name.removeprefix("new."): value for name, value in found.items() if name.startswith("new.")}
    print(f"loss {losses[0]:.4f} -> {losses[-1]:.4f} in ONNX Runtime")
    assert losses[-1] < losses[0] / 4

    gradport.write_back(state, model, optimizer)
    for _ in range(50):  # goes on in torch, with the optimizer's own moments
        optimizer.zero_grad()
        loss(model(x), x.sin()).backward()
        optimizer.step()
    program = gradport.export(model.eval(), x, dynamic_shapes={"input": {0: "batch"}})
    (output,) = program.run(x)
    print(f"loss {loss(output, x.sin()).item():.4f} after going on in torch, exported for inference")


if __name__ == "__main__":
    main()
