"""Forces of a molecular model: energy in torch, energy and forces out of one ONNX file, at any number of atoms."""

import torch

import gradport


class Energy(torch.nn.Module):
    """A small pair potential; positions are (atoms, 3), in any unit of length."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centers", torch.linspace(0.5, 4, 8))
        self.pair = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.SiLU(), torch.nn.Linear(16, 1))

    def forward(self, positions: torch.Tensor) -> torch.Tensor:
        apart = positions.unsqueeze(1) - positions.unsqueeze(0)
        distance = (apart.square().sum(-1) + 1e-6).sqrt()
        features = torch.exp(-((distance.unsqueeze(-1) - self.centers) ** 2))
        return self.pair(features).sum()


class Forces(torch.nn.Module):
    """Energy and forces, the usual way: autograd inside forward. Its own gradient goes through the forces."""

    def __init__(self, energy: Energy) -> None:
        super().__init__()
        self.energy = energy

    def forward(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.enable_grad():
            positions = positions.detach().requires_grad_()
            energy = self.energy(positions)
            (slope,) = torch.autograd.grad(energy, positions, create_graph=True)
        return energy, -slope


def main() -> None:
    """Two ways to the same forces, and the training gradient through them."""
    torch.manual_seed(0)
    energy = Energy()
    positions = gradport.tensor("f32[atoms:5,3]")

    asked = gradport.export(energy, positions, wrt="positions", loss="output")  # the energy is the loss
    inside = gradport.export(Forces(energy), positions)
    molecule = torch.randn(12, 3) * 2  # another number of atoms than the example's
    _, slope = asked.run(molecule)
    total, forces = inside.run(molecule)
    torch.testing.assert_close(forces, -slope)
    print(f"energy {total.item():.4f}; the forces of 12 atoms sum to {forces.sum(0).abs().max():.1e}")

    def loss(result: tuple[torch.Tensor, torch.Tensor], target: torch.Tensor) -> torch.Tensor:
        return (result[1] - target).square().mean()

    training = gradport.export(Forces(energy), positions, wrt="parameters", loss=loss, targets=positions)
    loss_value, *gradients = training.run(molecule, torch.zeros(12, 3))
    print(f"force loss {loss_value.item():.4f}, {len(gradients)} gradients through the forces")


if __name__ == "__main__":
    main()
