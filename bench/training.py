"""Training steps of bundles beside eager torch: time and peak memory, each in a process of its own.

    python bench/training.py [--models MLP,CNN,GPT] [--threads 1] [--steps 20] [--onnxruntime-training PYTHON]

Peak is the highest resident memory of a process less that after its imports, before weights are loaded. Times are
medians; the processes of a model run in turns, three rounds each.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

MODELS = ("MLP", "CNN", "GPT", "GPT-12", "GPT-12 checkpointed", "GPT-2")
WAYS = ("torch", "torch fused", "bundle")
OTHER = pathlib.Path(__file__).with_name("onnxruntime_training.py")


def model_of(name):
    """A model and a batch: those of MODELS, or those of a network of `networks.py`."""
    import torch
    import torch.utils.checkpoint

    if name not in MODELS:
        import networks

        torch.manual_seed(0)
        return networks.NETWORKS[name].build().train(), networks.NETWORKS[name].batch()

    class Block(torch.nn.Module):
        def __init__(self, width, heads):
            super().__init__()
            self.heads = heads
            self.norm1, self.norm2 = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)
            self.qkv, self.out = torch.nn.Linear(width, 3 * width), torch.nn.Linear(width, width)
            self.up, self.down = torch.nn.Linear(width, 4 * width), torch.nn.Linear(4 * width, width)

        def forward(self, x):
            batch, length, width = x.shape
            parts = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, width // self.heads)
            q, k, v = parts.permute(2, 0, 3, 1, 4)
            seen = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(seen.transpose(1, 2).reshape(batch, length, width))
            return x + self.down(torch.nn.functional.gelu(self.up(self.norm2(x)), approximate="tanh"))

    class Gpt(torch.nn.Module):
        """Tied embeddings, learned positions; `checkpointed` computes the blocks again in the backward pass."""

        def __init__(self, layers, width, heads, vocabulary, length, checkpointed=False):
            super().__init__()
            self.checkpointed = checkpointed
            self.tokens, self.places = torch.nn.Embedding(vocabulary, width), torch.nn.Embedding(length, width)
            self.blocks = torch.nn.ModuleList(Block(width, heads) for _ in range(layers))
            self.norm = torch.nn.LayerNorm(width)
            torch.nn.init.normal_(self.tokens.weight, std=0.02)
            torch.nn.init.normal_(self.places.weight, std=0.02)

        def forward(self, x):
            hidden = self.tokens(x) + self.places.weight[: x.shape[1]]
            for block in self.blocks:
                if self.checkpointed:
                    hidden = torch.utils.checkpoint.checkpoint(block, hidden, use_reentrant=False)
                else:
                    hidden = block(hidden)
            return self.norm(hidden) @ self.tokens.weight.T

    torch.manual_seed(0)
    if name == "MLP":
        layers = [torch.nn.Linear(256, 1024), torch.nn.GELU(), torch.nn.Linear(1024, 1024), torch.nn.GELU()]
        return torch.nn.Sequential(*layers, torch.nn.Linear(1024, 10)), (
            torch.randn(64, 256),
            torch.randint(0, 10, (64,)),
        )
    if name == "CNN":
        layers = []
        for one, other in ((3, 32), (32, 64), (64, 128)):
            layers += [torch.nn.Conv2d(one, other, 3, padding=1, bias=False), torch.nn.BatchNorm2d(other)]
            layers += [torch.nn.ReLU(), torch.nn.MaxPool2d(2)]
        model = torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(128 * 16, 10))
        return model, (torch.randn(32, 3, 32, 32), torch.randint(0, 10, (32,)))
    if name == "GPT":
        return Gpt(4, 256, 4, 1000, 128), (torch.randint(0, 1000, (16, 128)), torch.randint(0, 1000, (16, 128)))
    if name.startswith("GPT-12"):
        model = Gpt(12, 256, 4, 1000, 128, checkpointed=name.endswith("checkpointed"))
        return model, (torch.randint(0, 1000, (16, 128)), torch.randint(0, 1000, (16, 128)))
    return Gpt(12, 768, 12, 50257, 64), (torch.randint(0, 50257, (2, 64)), torch.randint(0, 50257, (2, 64)))


def gpt2():
    """GPT-2 with 124 million parameters."""
    return model_of("GPT-2")[0]


def loss_of(result, target):
    """Cross entropy of images, of each word, of each pixel."""
    import torch

    if target.dim() == 2:
        result, target = result.flatten(0, 1), target.flatten()
    return torch.nn.functional.cross_entropy(result, target)


def optimizer_of(model, **options):
    import torch

    return torch.optim.AdamW(model.parameters(), lr=1e-4, **options)


def export(name, folder):
    import gradport

    model, (x, y) = model_of(name)
    gradport.export_training(model, x, optimizer=optimizer_of(model), loss=loss_of, targets=y, verify=False).save(
        folder
    )


def export_forward(name, path):
    """The forward alone, whose loss and gradients onnxruntime-training adds."""
    import torch

    import gradport

    class Flat(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, x):
            return self.model(x).flatten(0, -2)

    model, (x, _) = model_of(name)
    gradport.export(Flat(model), x, opset_version=18, functions="inline", verify=False).save(path)


def memory(field):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith(field))


def child(way, name, folder, steps, threads):
    """Prints milliseconds a step, peak MiB and the loss after the last step."""
    import numpy as np

    if way == "bundle":
        from gradport_runtime import Trainer

        base = memory("VmRSS")
        batch = dict(np.load(f"{folder}.npz"))
        trainer = Trainer(folder, threads=threads)
        step = lambda: trainer.step(batch)["loss"]  # noqa: E731
    else:
        import torch

        torch.set_num_threads(threads)
        if name not in MODELS:
            import networks  # noqa: F401
        base = memory("VmRSS")
        model, (x, y) = model_of(name)
        optimizer = optimizer_of(model, fused=way.endswith("fused"))

        def step():
            optimizer.zero_grad()
            loss = loss_of(model(x), y)
            loss.backward()
            optimizer.step()
            return float(loss.detach())

    step()
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        loss = step()
        times.append(time.perf_counter() - start)
    print(json.dumps({"ms": 1e3 * statistics.median(times), "peak": memory("VmHWM") - base, "loss": loss}))


def run_python(*command, threads=1):
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    ran = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment)
    if ran.returncode:
        raise RuntimeError(next(line for line in reversed(ran.stderr.splitlines()) if line.strip()))
    return ran.stdout


def measure(name, steps, threads, rounds, python):
    import numpy as np

    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch) / "bundle"
        export(name, folder)
        _, (x, y) = model_of(name)
        np.savez(f"{folder}.npz", **dict(zip(inputs_of(folder), (x.numpy(), y.numpy()), strict=True)))
        size = sum(file.stat().st_size for file in folder.iterdir() if file.suffix == ".onnx")
        commands = {way: (sys.executable, __file__, "--child", way, name, folder, steps, threads) for way in WAYS}
        if python:
            export_forward(name, f"{folder}.onnx")
            artifacts = f"{folder}-artifacts"
            options = ("--batch", f"{folder}.npz", "--steps", steps, "--threads", threads)
            try:
                run_python(python, OTHER, artifacts, "--forward", f"{folder}.onnx")
                commands["onnxruntime-training"] = (python, OTHER, artifacts, *options)
            except RuntimeError as error:
                print(f"onnxruntime-training builds no gradient of {name}: {error}", file=sys.stderr)
        found = {way: [] for way in commands}
        for _ in range(rounds):
            for way, command in commands.items():
                found[way].append(json.loads(run_python(*command, threads=threads)))
    rows = {}
    for way, results in found.items():
        rows[way] = {key: statistics.median(one[key] for one in results) for key in ("ms", "peak", "loss")}
    return rows, size


def peaks(name, bundle, threads, steps=5):
    """The peak MiB of a few steps in torch and of a bundle, of a process each."""
    import numpy as np

    _, (x, y) = model_of(name)
    np.savez(f"{bundle}.npz", **dict(zip(inputs_of(bundle), (x.numpy(), y.numpy()), strict=True)))
    return {
        way: json.loads(run_python(sys.executable, __file__, "--child", way, name, bundle, steps, threads))["peak"]
        for way in ("torch", "bundle")
    }


def inputs_of(folder):
    ports = json.loads((folder / "training.json").read_text())["models"]["gradients"]["inputs"]
    return [port["name"] for port in ports if port["role"] in ("argument", "target")]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="MLP,CNN,GPT")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--onnxruntime-training", metavar="PYTHON", help="a Python that has onnxruntime-training 1.19.2"
    )
    parser.add_argument("--child", nargs=5)
    options = parser.parse_args()
    if options.child:
        way, name, folder, steps, threads = options.child
        return child(way, name, folder, int(steps), int(threads))
    heads = ("model", "way", "ms a step", "over torch", "peak MiB", "over torch", "loss")
    print(f"| {' | '.join(heads)} |")
    print("| --- " * len(heads) + "|")
    for name in options.models.split(","):
        rows, size = measure(name, options.steps, options.threads, options.rounds, options.onnxruntime_training)
        base = rows["torch"]
        for way, row in rows.items():
            ratios = row["ms"] / base["ms"], row["peak"] / base["peak"]
            label = f"{way}, {size / 2**20:.1f} MiB of models" if way == "bundle" else way
            print(
                f"| {name} | {label} | {row['ms']:.1f} | {ratios[0]:.2f} | {row['peak']:.0f} | {ratios[1]:.2f} "
                f"| {row['loss']:.5f} |",
                flush=True,
            )
    return None


if __name__ == "__main__":
    main()
