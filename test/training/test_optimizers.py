"""Every optimizer that export_step takes trains in a bundle; each output is bound to the state that it replaces."""

import numpy as np
import onnxruntime
import pytest
import torch
from gradport_runtime import Trainer

from gradport.eager import rows
from gradport.lowering.passes import batched_updates
from gradport.lowering.passes.aliasing import unsafe_successors
from gradport.training.manifest import successors

from .models import batch_of, mlp, train_in_torch, trained

OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1),
    "SGD momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.1),
    "SGD Nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "Adam AMSGrad": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.01),
    "Adamax": lambda p: torch.optim.Adamax(p, lr=0.01),
    "NAdam": lambda p: torch.optim.NAdam(p, lr=0.01),
    "RAdam": lambda p: torch.optim.RAdam(p, lr=0.01),
    "Adagrad": lambda p: torch.optim.Adagrad(p, lr=0.01),
    "Adadelta": lambda p: torch.optim.Adadelta(p, lr=1.0),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
    "Rprop": lambda p: torch.optim.Rprop(p, lr=0.01),
    "ASGD": lambda p: torch.optim.ASGD(p, lr=0.01),
    "Adafactor": lambda p: torch.optim.Adafactor(p, lr=0.01),
    "Muon": lambda p: torch.optim.Muon([one for one in p if one.dim() == 2], lr=0.01),
}

LOOSE = {"Muon": 2e-2, "Rprop": 1e-4, "Adafactor": 1e-4}
"""Muon multiplies matrices in bfloat16, Rprop steps by a sign, Adafactor divides by means of squares."""

NOT_IN_ROWS = {"Adafactor", "Muon", "Rprop"}
"""They look at whole tensors."""

MODES = [
    (level, mode)
    for level in (
        onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
        onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
        onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    )
    for mode in (onnxruntime.ExecutionMode.ORT_SEQUENTIAL, onnxruntime.ExecutionMode.ORT_PARALLEL)
]


OFTEN = [name if name in ("AdamW", "ASGD") else pytest.param(name, marks=pytest.mark.corpus) for name in OPTIMIZERS]
"""OPTIMIZERS, of which a usual one and one with unsafe state are tried in each run."""


@pytest.fixture(scope="module")
def tensors(request):
    """Whether all tensors of more than 8 elements count as large, so that they are updated in rows."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "in rows":
            patch.setattr(rows, "_LARGE", 8)
            patch.setattr(batched_updates, "_SMALL", 8)
            patch.setattr(rows, "_COLUMNS", 6)
        rows.rows_of.cache_clear()
        yield request.param
    rows.rows_of.cache_clear()


@pytest.fixture(scope="module", params=OFTEN)
def case(request, tensors, tmp_path_factory):
    model = mlp()
    training = trained(model, OPTIMIZERS[request.param](list(model.parameters())))
    path = tmp_path_factory.mktemp("training") / "bundle"
    training.save(path)
    nodes = [node.op_type for node in training.programs["apply"].model.graph]
    scans = tensors == "in rows" and request.param not in NOT_IN_ROWS
    assert nodes.count("Scan") == (len(rows.rows_of_large(dict(model.named_parameters()))) if scans else 0)
    return request.param, training, path


EITHER = pytest.mark.parametrize("tensors", ["whole", "in rows"], indirect=True, scope="module")


@EITHER
def test_losses_are_those_of_torch(case):
    name, _, path = case
    model = mlp()
    optimizer = OPTIMIZERS[name](list(model.parameters()))
    batches = [batch_of(model, seed=step) for step in range(20)]
    losses = train_in_torch(model, optimizer, batches)
    trainer = Trainer(path)
    found = [trainer.step(input=x.numpy(), target=y.numpy())["loss"] for x, y in batches]
    assert found == pytest.approx(losses, rel=LOOSE.get(name, 1e-5))


@EITHER
def test_new_state_over_old_is_as_good_as_beside_it(case):
    """Bit for bit, at every level of optimization and with operators in parallel."""
    _, training, path = case
    program = training.programs["apply"]
    pairs = dict(successors(program))
    assert list(unsafe_successors(program.model.graph, list(pairs.items()))) == []
    generator = torch.Generator().manual_seed(0)
    feeds = {
        spec.name: (1 + torch.rand(spec.shape, generator=generator)).to(spec.dtype).numpy() for spec in program.inputs
    }
    for level, mode in MODES:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level, options.execution_mode = level, mode
        options.inter_op_num_threads = 2
        session = onnxruntime.InferenceSession(path / "apply.onnx", options)
        apart = dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))
        held = {name: np.array(array) for name, array in feeds.items()}
        values = {name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in held.items()}
        binding = session.io_binding()
        for name, value in values.items():
            binding.bind_ortvalue_input(name, value)
        for old, new in pairs.items():
            binding.bind_ortvalue_output(new, values[old])
        session.run_with_iobinding(binding)
        for old, new in pairs.items():
            assert np.array_equal(held[old], apart[new], equal_nan=True), (old, level, mode)
