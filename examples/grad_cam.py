"""Grad-CAM: where a CNN looks, as one ONNX file that gives logits, activation and its gradient.

R. R. Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017.
"""

import torch

import gradport


class Network(torch.nn.Module):
    """A small CNN."""

    def __init__(self) -> None:
        super().__init__()
        self.features = torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Conv2d(8, 16, 3)
        )
        self.head = torch.nn.Linear(16, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.features(image)).mean((2, 3)))


def score(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """What is explained: the logit of the label of each image."""
    return logits.gather(1, label.unsqueeze(1)).sum()


def main() -> None:
    """Export once, then explain any batch of images."""
    torch.manual_seed(0)
    program = gradport.export(
        Network(),
        gradport.tensor("f32[batch:2,3,32,32]"),
        wrt="features.output",
        outputs=["output", "features.output"],
        loss=score,
        targets={"label": gradport.tensor("i64[batch:2]@0..4")},
    )
    images, labels = torch.randn(7, 3, 32, 32), torch.randint(0, 5, (7,))
    _, logits, activation, gradient = program.run(images, labels)
    weights = gradient.mean((2, 3), keepdim=True)
    maps = torch.relu((weights * activation).sum(1))
    print(f"{len(maps)} maps of {list(maps.shape[1:])} for logits of {list(logits.shape)}")


if __name__ == "__main__":
    main()
