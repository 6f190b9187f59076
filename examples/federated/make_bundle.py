"""The developer's side, and the only one with torch: exports a classifier of digits as a bundle, splits the data.

Run: python make_bundle.py FOLDER

Writes one folder for the server (bundle and test set) and one for each client (bundle and its own share). The shares
are uneven: the first client has mostly the digits 0 to 4, the second mostly 5 to 9.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits

import gradport

TEST = 360  # images that only the server has
MOSTLY = 0.85  # the part of its main digits that a client gets


def make_training() -> gradport.Training:
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Dropout(0.1), torch.nn.Linear(64, 10)
    )
    return gradport.export_training(
        model,
        gradport.tensor("f32[batch,64]"),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9),
        loss=torch.nn.functional.cross_entropy,
        targets=gradport.tensor("i64[batch]@0..9"),
        metrics={"accuracy": lambda result, target: (result.argmax(-1) == target).float().mean()},
        input_names=["x"],
    )


def main(folder: Path) -> None:
    images, labels = load_digits(return_X_y=True)
    random = np.random.default_rng(0)
    order = random.permutation(len(labels))
    images, labels = (images[order] / 16).astype(np.float32), labels[order].astype(np.int64)
    second = np.where(labels >= 5, MOSTLY, 1 - MOSTLY) > random.random(len(labels))
    rest = np.arange(len(labels)) >= TEST
    training = make_training()
    for name, file, chosen in (
        ("server", "test.npz", ~rest),
        ("client-0", "share-0.npz", rest & ~second),
        ("client-1", "share-1.npz", rest & second),
    ):
        training.save(folder / name / "bundle")
        np.savez(folder / name / file, images=images[chosen], labels=labels[chosen])
        counts = ", ".join(f"{digit}: {number}" for digit, number in enumerate(np.bincount(labels[chosen])))
        print(f"{folder / name}: {int(chosen.sum())} images ({counts})")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
