"""Guidance of a diffusion step: a classifier's gradient by the noisy image, in ONNX Runtime.

P. Dhariwal, A. Nichol, "Diffusion Models Beat GANs on Image Synthesis", NeurIPS 2021, algorithm 2.
"""

import torch
import torch.nn.functional as F

import gradport


class Denoiser(torch.nn.Module):
    """Predicts the noise in an image at a time step."""

    def __init__(self) -> None:
        super().__init__()
        self.time = torch.nn.Embedding(100, 8)
        self.down = torch.nn.Conv2d(1, 8, 3, stride=2, padding=1)
        self.up = torch.nn.ConvTranspose2d(8, 1, 4, stride=2, padding=1)

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return self.up(F.silu(self.down(x) + self.time(t)[:, :, None, None]))


class Classifier(torch.nn.Module):
    """Knows the digit in a noisy image."""

    def __init__(self) -> None:
        super().__init__()
        self.features = torch.nn.Conv2d(1, 8, 3, stride=2, padding=1)
        self.head = torch.nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(F.silu(self.features(x)).mean((2, 3)))


def log_likelihood(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Of the wanted label, summed over the batch."""
    return -F.cross_entropy(logits, label, reduction="sum")


def main() -> None:
    """Two files, one guided step."""
    torch.manual_seed(0)
    x, t = gradport.tensor("f32[batch:2,1,28,28]"), gradport.tensor("i64[batch:2]@0..99")
    denoiser = gradport.export(Denoiser(), (x, t))
    guide = gradport.export(
        Classifier(), x, wrt="x", loss=log_likelihood, targets={"label": gradport.tensor("i64[batch:2]@0..9")}
    )

    image, wanted, scale, noise_left = torch.randn(4, 1, 28, 28), torch.tensor([3, 1, 4, 1]), 200.0, 0.5
    (noise,) = denoiser.run(image, torch.full((4,), 50))
    before, gradient = guide.run(image, wanted)
    guided = noise - noise_left**0.5 * scale * gradient
    after, _ = guide.run(image - 0.1 * (guided - noise), wanted)
    print(f"log-likelihood of the wanted labels {before.item():.4f} -> {after.item():.4f}")
    assert after > before


if __name__ == "__main__":
    main()
