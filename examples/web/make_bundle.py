"""The bundle of the page, and the real digits that the page trains and validates with.

The digits are scikit-learn's: 8 x 8 pixels, here 16 x 16. A few dozen people wrote them, so the network starts with a
useful idea of each digit and still has to learn the visitor's handwriting.

Run: python examples/web/make_bundle.py
"""

import math
import pathlib

import numpy as np
import torch
from safetensors.numpy import save_file
from sklearn.datasets import load_digits
from torch.nn import functional

import gradport

PUBLIC = pathlib.Path(__file__).parent / "public"
SIZE = 16
REHEARSED, VALIDATED = 20, 10  # of each digit


class Digits(torch.nn.Module):
    """Two convolutions with batch norm, dropout and a linear layer; `(batch, 1, 16, 16)` to ten logits."""

    def __init__(self):
        super().__init__()
        self.first, self.first_norm = torch.nn.Conv2d(1, 16, 3, padding=1, bias=False), torch.nn.BatchNorm2d(16)
        self.second, self.second_norm = torch.nn.Conv2d(16, 32, 3, padding=1, bias=False), torch.nn.BatchNorm2d(32)
        self.drop, self.head = torch.nn.Dropout(0.3), torch.nn.Linear(32 * 4 * 4, 10)

    def forward(self, image):
        hidden = functional.max_pool2d(torch.relu(self.first_norm(self.first(image))), 2)
        hidden = functional.max_pool2d(torch.relu(self.second_norm(self.second(hidden))), 2)
        return self.head(self.drop(hidden.flatten(1)))


def accuracy(result, target):
    return (result.argmax(-1) == target).float().mean()


def load_images():
    """The digits in a random order: images `(1797, 1, 16, 16)` from 0 to 1, and labels."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    small = torch.tensor(images[order] / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    large = functional.interpolate(small, size=(SIZE, SIZE), mode="bicubic", align_corners=False)
    return large.clamp(0, 1), torch.tensor(labels[order])


def distort(images):
    """Turns, shears, scales and moves each image a little, as handwriting differs between people."""
    count = len(images)
    angle, shear = (torch.rand(2, count) - 0.5) * torch.tensor([[math.radians(30)], [0.4]])
    scale, shift = torch.rand(count, 2) * 0.3 + 0.9, (torch.rand(count, 2) - 0.5) * 0.3
    cos, sin = angle.cos(), angle.sin()
    rows = [torch.stack([cos, shear - sin], -1) * scale, torch.stack([sin, cos], -1) * scale]
    matrices = torch.cat([torch.stack(rows, 1), shift[:, :, None]], -1)
    return functional.grid_sample(images, functional.affine_grid(matrices, images.shape, False), align_corners=False)


def pretrain(model, optimizer, images, labels, epochs=4):
    model.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(labels)).split(64):
            optimizer.zero_grad()
            functional.cross_entropy(model(distort(images[batch])), labels[batch]).backward()
            optimizer.step()


def some_of_each(labels, count):
    """Positions of the first `count` images of each digit."""
    return torch.cat([(labels == digit).nonzero()[:count, 0] for digit in range(10)])


def main():
    torch.manual_seed(0)
    images, labels = load_images()
    validated = some_of_each(labels, VALIDATED)
    rest = torch.ones(len(labels), dtype=torch.bool)
    rest[validated] = False
    model = Digits()
    pretrain(model, torch.optim.AdamW(model.parameters(), lr=4e-3), images[rest], labels[rest])
    model.eval()
    with torch.no_grad():
        share = accuracy(model(images[validated]), labels[validated])
    gradport.export_training(
        model,
        gradport.tensor(f"f32[batch,1,{SIZE},{SIZE}]"),
        optimizer=torch.optim.AdamW(model.parameters(), lr=1e-3),
        loss=functional.cross_entropy,
        targets=gradport.tensor("i64[batch]@0..9"),
        metrics={"accuracy": accuracy},
    ).save(PUBLIC / "bundle")
    rehearsed = rest.nonzero()[some_of_each(labels[rest], REHEARSED), 0]
    sample = {}
    for name, chosen in (("rehearsal", rehearsed), ("validation", validated)):
        sample[f"{name}.images"] = (images[chosen] * 255).round().to(torch.uint8).numpy()
        sample[f"{name}.labels"] = labels[chosen].to(torch.uint8).numpy()
    save_file(sample, PUBLIC / "digits.safetensors")
    (PUBLIC / "digits.safetensors").chmod(
        0o644
    )  # safetensors makes a file that only its owner reads, and a server may be somebody else
    print(f"{PUBLIC}: the network knows {share:.0%} of {len(validated)} digits that it has not seen.")


if __name__ == "__main__":
    main()
