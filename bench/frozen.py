"""Memory of frozen weights: bytes a parameter that stay resident while adapters train, by the form of the weights.

    python bench/frozen.py [--size 2048] [--layers 8] [--batch 64]

Layers of size x size with adapters of rank 4. Resident is the memory of a process after ten steps less that after its
imports; peak is its highest. Both are divided by the number of frozen parameters.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time

FORMS = ("float32", "float16", "int8", "int4")


def export(form, size, layers, batch, folder):
    import torch

    import gradport

    class Adapter(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(size, size, bias=False).requires_grad_(False)
            self.down, self.up = torch.nn.Linear(size, 4, bias=False), torch.nn.Linear(4, size, bias=False)

        def forward(self, x):
            return torch.tanh(self.layer(x) + self.up(self.down(x)))

    model = torch.nn.Sequential(*(Adapter() for _ in range(layers)))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    gradport.export_training(
        model,
        torch.randn(batch, size),
        optimizer=optimizer,
        loss=lambda result: result.square().mean(),
        frozen=None if form == "float32" else form,
        verify=False,
    ).save(folder)


def memory(field):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(field))


def child(folder, size, layers, batch):
    """Prints resident and peak bytes a frozen parameter, and milliseconds a step."""
    import numpy as np
    from gradport_runtime import Trainer

    base = memory("VmRSS")
    trainer = Trainer(folder, threads=1)
    given = {"input": np.random.default_rng(0).standard_normal((batch, size)).astype(np.float32)}
    times = []
    for _ in range(10):
        start = time.perf_counter()
        trainer.step(given)
        times.append(1e3 * (time.perf_counter() - start))
    count = size * size * layers
    resident, peak = ((memory(field) - base) / count for field in ("VmRSS", "VmHWM"))
    print(json.dumps({"resident": resident, "peak": peak, "ms": statistics.median(times)}))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--child")
    options = parser.parse_args()
    shape = (options.size, options.layers, options.batch)
    if options.child:
        return child(options.child, *shape)
    print("| frozen | resident, bytes a parameter | peak, bytes a parameter | ms a step |\n| --- | --- | --- | --- |")
    for form in FORMS:
        with tempfile.TemporaryDirectory() as scratch:
            export(form, *shape, f"{scratch}/bundle")
            sizes = [f"--{name}={value}" for name, value in zip(("size", "layers", "batch"), shape, strict=True)]
            command = [sys.executable, __file__, "--child", f"{scratch}/bundle", *sizes]
            found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        print(f"| {form} | {found['resident']:.2f} | {found['peak']:.2f} | {found['ms']:.0f} |", flush=True)
    return None


if __name__ == "__main__":
    main()
