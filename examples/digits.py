"""A classifier of handwritten digits: exported as a bundle with torch, trained without it.

Run: python examples/digits.py
"""

import tempfile

import numpy as np
import torch
from gradport_runtime import Trainer
from sklearn.datasets import load_digits

import gradport


class Digits(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.hidden, self.drop, self.head = torch.nn.Linear(64, 64), torch.nn.Dropout(0.1), torch.nn.Linear(64, 10)

    def forward(self, x):
        return self.head(self.drop(torch.relu(self.hidden(x))))


def main():
    model = Digits()
    training = gradport.export_training(
        model,
        gradport.tensor("f32[batch,64]"),
        optimizer=torch.optim.AdamW(model.parameters(), lr=1e-2),
        loss=torch.nn.functional.cross_entropy,
        targets=gradport.tensor("i64[batch]@0..9"),
        metrics={"accuracy": lambda result, target: (result.argmax(-1) == target).float().mean()},
    )
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    images, labels = (images[order] / 16).astype(np.float32), labels[order]
    with tempfile.TemporaryDirectory() as folder:
        training.save(f"{folder}/digits")
        trainer = Trainer(f"{folder}/digits")
        batches = [{"x": images[at : at + 32], "target": labels[at : at + 32]} for at in range(0, 1500, 32)]
        history = trainer.fit(batches, epochs=3, validate=[{"x": images[1500:], "target": labels[1500:]}])
        training.write_back(trainer.state(), model)
    model.eval()
    share = (model(torch.from_numpy(images[1500:])).argmax(-1).numpy() == labels[1500:]).mean()
    print(f"accuracy {history['epochs'][-1]['accuracy']:.3f} in the bundle, {share:.3f} back in torch")


if __name__ == "__main__":
    main()
