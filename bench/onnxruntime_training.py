"""A training step in onnxruntime-training 1.19.2, its last version, as a row of `bench/training.py`.

    python -m venv ort
    ort/bin/pip install onnxruntime-training==1.19.2 "numpy<2" "onnx<1.17" torch
    python bench/training.py --onnxruntime-training ort/bin/python

That environment runs this file with the forward that `bench/training.py` exported. Its artifacts (gradients, optimizer,
checkpoint) are built first, in a process of their own, so that the peak is that of training.
"""

import argparse
import json
import pathlib
import statistics
import time


def build(forward, folder):
    import onnx
    from onnxruntime.training import artifacts

    model = onnx.load(forward)
    floats = [one.name for one in model.graph.initializer if one.data_type == onnx.TensorProto.FLOAT]
    trained = [name for name in floats if "." in name]
    kept = [name for name in trained if "running_" in name]
    artifacts.generate_artifacts(
        model,
        requires_grad=[name for name in trained if name not in kept],
        frozen_params=kept,
        loss=artifacts.LossType.CrossEntropyLoss,
        optimizer=artifacts.OptimType.AdamW,
        artifact_directory=folder,
    )


def memory(field):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith(field))


def train(folder, batch, steps, threads):
    import numpy as np
    import onnxruntime
    from onnxruntime.training.api import CheckpointState, Module, Optimizer

    base = memory("VmRSS")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    state = CheckpointState.load_checkpoint(f"{folder}/checkpoint")
    module = Module(f"{folder}/training_model.onnx", state, session_options=options)
    optimizer = Optimizer(f"{folder}/optimizer_model.onnx", module)
    optimizer.set_learning_rate(1e-4)
    x, y = np.load(batch).values()
    module.train()

    def step():
        loss = module(x, y.reshape(-1))
        optimizer.step()
        module.lazy_reset_grad()
        return float(loss)

    step()
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        loss = step()
        times.append(time.perf_counter() - start)
    print(json.dumps({"ms": 1e3 * statistics.median(times), "peak": memory("VmHWM") - base, "loss": loss}))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--forward")
    parser.add_argument("--batch")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if options.forward:
        pathlib.Path(options.folder).mkdir(exist_ok=True)
        build(options.forward, options.folder)
    else:
        train(options.folder, options.batch, options.steps, options.threads)


if __name__ == "__main__":
    main()
