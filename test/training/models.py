"""Small trainings that several tests share."""

import torch

import gradport

__all__ = ["accuracy", "batch_of", "train_in_torch", "trained"]

GENERATOR = torch.Generator().manual_seed(0)


def accuracy(result, target):
    return (result.argmax(-1) == target).float().mean()


def mlp():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))


def cnn():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3),
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.25),
        torch.nn.Flatten(),
        torch.nn.Linear(4 * 6 * 6, 3),
    )


def batch_of(model, rows=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (rows, 4) if isinstance(model[0], torch.nn.Linear) else (rows, 1, 8, 8)
    return torch.randn(shape, generator=generator), torch.randint(0, 3, (rows,), generator=generator)


def trained(model, optimizer, **options):
    """The Training of a classifier at any batch."""
    x, y = batch_of(model)
    shapes = {"input": {0: "batch"}, "target": {0: "batch"}}
    return gradport.export_training(
        model,
        x,
        optimizer=optimizer,
        loss=torch.nn.functional.cross_entropy,
        targets=y,
        dynamic_shapes=shapes,
        **options,
    )


def train_in_torch(model, optimizer, batches, clip=None, scheduler=None):
    """The loss of each step in eager torch."""
    losses = []
    for x, y in batches:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        losses.append(float(loss.detach()))
    return losses
