"""Files that are corrupt, or meant to do harm, give one sentence; nothing crashes, hangs or is touched."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import onnx
import onnx.external_data_helper
import onnx.numpy_helper
import pytest
import torch
from onnx import TensorProto, helper

import gradport

from ..exporting import functions as fn

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))

FUZZ = """
import random, sys, pathlib, tempfile
import torch
torch.set_num_threads(1)
import gradport
import functions as fn
X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
original = pathlib.Path(sys.argv[1]).read_bytes()
outcomes = {"refused": 0, "judged": 0}
for seed in range(int(sys.argv[2]), int(sys.argv[3])):
    random.seed(seed)
    data = bytearray(original)
    kind = seed % 4
    if kind == 0:
        for _ in range(random.choice((1, 3, 10))):
            data[random.randrange(len(data))] = random.randrange(256)
    elif kind == 1:
        data = data[: random.randrange(1, len(data))]
    elif kind == 2:
        at = random.randrange(len(data))
        data[at:at] = bytes(random.randrange(256) for _ in range(random.randrange(1, 40)))
    else:
        at = random.randrange(len(data))
        del data[at : at + random.randrange(1, 40)]
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "mutated.onnx"
        file.write_bytes(bytes(data))
        print(seed, flush=True)
        try:
            gradport.verify(file, fn.Swish, X, budget=0.1)
            outcomes["judged"] += 1
        except gradport.Error as error:
            assert str(error).strip() and "\\n" not in str(error), error
            outcomes["refused"] += 1
print(outcomes)
"""


@pytest.fixture(scope="module")
def swish(tmp_path_factory):
    file = tmp_path_factory.mktemp("model") / "swish.onnx"
    gradport.export(fn.Swish, X, wrt="inputs").save(file)
    return file


@pytest.mark.corpus
@pytest.mark.parametrize("part", [0, 1])
def test_mutated_files_are_refused_or_judged(swish, part):
    low, high = part * 120, (part + 1) * 120
    command = [sys.executable, "-c", FUZZ, str(swish), str(low), str(high)]
    path = {"PYTHONPATH": str(pathlib.Path(fn.__file__).parent)}
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, **path})
    assert result.returncode == 0, (result.returncode, result.stdout[-300:], result.stderr[-3000:])
    assert "'refused'" in result.stdout.splitlines()[-1]


def with_weight(tensor, folder, name="model.onnx"):
    """A file `y = x + w` whose weight is `tensor`."""
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["output"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 3])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [4, 3])],
        [tensor],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    (folder / name).write_bytes(model.SerializeToString())
    return folder / name


def external(location, *, length=48, offset=0, dims=(4, 3)):
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def refused(file):
    with pytest.raises(gradport.ProgramError) as caught:
        gradport.load(file)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_external_data_in_the_folder_are_read(tmp_path):
    (tmp_path / "data.bin").write_bytes(np.ones((4, 3), np.float32).tobytes())
    program = gradport.load(with_weight(external("data.bin"), tmp_path))
    assert torch.equal(program.run(X)[0], X + 1)


@pytest.mark.parametrize("location", ["../secret.bin", "sub/../../secret.bin"])
def test_a_path_that_leaves_the_folder_is_refused(tmp_path, location):
    inner = tmp_path / "model"
    (inner / "sub").mkdir(parents=True)
    (tmp_path / "secret.bin").write_bytes(bytes(48))
    assert "outside the model's folder" in refused(with_weight(external(location), inner))


def test_an_absolute_path_is_refused(tmp_path):
    (tmp_path / "secret.bin").write_bytes(bytes(48))
    inner = tmp_path / "model"
    inner.mkdir()
    assert "outside the model's folder" in refused(with_weight(external(str(tmp_path / "secret.bin")), inner))


def test_a_link_that_leaves_the_folder_is_refused(tmp_path):
    (tmp_path / "secret.bin").write_bytes(bytes(48))
    inner = tmp_path / "model"
    inner.mkdir()
    (inner / "data.bin").symlink_to(tmp_path / "secret.bin")
    assert "a link that leaves" in refused(with_weight(external("data.bin"), inner))


@pytest.mark.parametrize(("offset", "length"), [(0, 4096), (40, 48), (-8, 48), (0, 8)])
def test_bytes_beyond_the_data_file_are_refused(tmp_path, offset, length):
    (tmp_path / "data.bin").write_bytes(bytes(48))
    assert "which is too short" in refused(with_weight(external("data.bin", offset=offset, length=length), tmp_path))


def test_a_tensor_without_its_bytes_is_refused(tmp_path):
    tensor = onnx.numpy_helper.from_array(np.ones((4, 3), np.float32), "w")
    tensor.raw_data = tensor.raw_data[:20]
    assert "has 20 bytes, but its shape and type require 48" in refused(with_weight(tensor, tmp_path))


def test_a_tensor_of_a_size_that_no_machine_has_is_refused(tmp_path):
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=(1 << 40, 1 << 20))
    assert "more than any machine can hold" in refused(with_weight(tensor, tmp_path))


def test_a_negative_dimension_is_refused(tmp_path):
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=(-1, 3))
    assert "has the shape [-1, 3]" in refused(with_weight(tensor, tmp_path))


def test_graphs_nested_a_thousand_deep_are_refused(tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["output"])],
        "g",
        [],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1])],
    ).SerializeToString()

    def field(number, data):
        size, out = len(data), bytearray([number << 3 | 2])
        while size > 127:
            out.append(size & 127 | 128)
            size >>= 7
        return bytes(out) + bytes([size]) + data

    for _ in range(1000):  # by hand: no serialiser goes that deep
        node = field(4, b"If") + field(5, field(1, b"then_branch") + field(6, graph) + bytes([20 << 3 | 0, 1, 5])[:2])
        graph = field(1, node) + field(12, field(1, b"output"))
    (tmp_path / "deep.onnx").write_bytes(bytes([1 << 3, 10]) + field(7, graph))
    assert "is not an ONNX model" in refused(tmp_path / "deep.onnx")


@pytest.mark.parametrize("content", [b"", b"not an onnx model", bytes(1000)])
def test_what_is_no_model_is_refused(tmp_path, content):
    (tmp_path / "model.onnx").write_bytes(content)
    assert "is not an ONNX model" in refused(tmp_path / "model.onnx")


def test_an_unknown_domain_is_said_by_the_runtime_that_lacks_it(tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Mystery", ["x"], ["output"], domain="com.nobody")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 3])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [4, 3])],
    )
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("com.nobody", 1)]
    (tmp_path / "model.onnx").write_bytes(helper.make_model(graph, opset_imports=imports).SerializeToString())
    evidence = gradport.verify(tmp_path / "model.onnx", lambda x: x, X)
    assert not evidence.ok
    assert "com.nobody" in next(f.message for f in evidence.findings if f.key == "runs/onnxruntime")


def test_a_dimension_that_no_memory_holds_fails_in_a_sentence(tmp_path):
    shape = onnx.numpy_helper.from_array(np.array([1 << 40], np.int64), "shape")
    graph = helper.make_graph(
        [
            helper.make_node("ConstantOfShape", ["shape"], ["big"]),
            helper.make_node("ReduceSum", ["big"], ["total"], keepdims=0),
            helper.make_node("Add", ["x", "total"], ["output"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 3])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [4, 3])],
        [shape],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    evidence = gradport.verify(tmp_path / "model.onnx", lambda x: x, X, budget=0.1)
    assert not evidence.ok
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.onnx"]
