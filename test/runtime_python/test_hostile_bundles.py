"""Bundles and checkpoints that may come from anybody."""

import json
import os
import shutil

import numpy as np
import pytest
import safetensors.numpy
from gradport_runtime import BundleError, CheckpointError, Trainer


@pytest.fixture
def copy(bundle, tmp_path):
    shutil.copytree(bundle, tmp_path / "bundle")
    return tmp_path / "bundle"


def change(folder, edit):
    path = folder / "training.json"
    manifest = json.loads(path.read_text())
    edit(manifest)
    path.write_text(json.dumps(manifest))


EDITS = {
    "newer": (lambda m: m.update(format=2), "format-newer"),
    "no format": (lambda m: m.pop("format"), "manifest-invalid"),
    "no models": (lambda m: m.pop("models"), "manifest-invalid"),
    "models a list": (lambda m: m.update(models=[]), "manifest-invalid"),
    "no apply": (lambda m: m["models"].pop("apply"), "model-missing"),
    "outside": (lambda m: m["models"]["apply"].update(file="../apply.onnx"), "path-outside"),
    "absolute": (lambda m: m["models"]["apply"].update(file="/etc/passwd"), "path-outside"),
    "drive": (lambda m: m["models"]["apply"].update(file="C:apply.onnx"), "path-outside"),
    "backslash": (lambda m: m["models"]["apply"].update(file="..\\apply.onnx"), "path-outside"),
    "missing": (lambda m: m["models"]["apply"].update(file="other.onnx"), "file-missing"),
    "dtype": (lambda m: m["state"][0].update(dtype="object"), "manifest-invalid"),
    "shape": (lambda m: m["state"][0].update(shape=[[1]]), "manifest-invalid"),
    "empty schedule": (lambda m: m.update(schedule={"lr": []}), "manifest-invalid"),
    "state": (lambda m: m["state"].pop(), "state-differs"),
    "initializers a list": (lambda m: m["models"]["apply"].update(initializers=["w"]), "manifest-invalid"),
    "a port of another size": (lambda m: m["models"]["apply"]["inputs"][0].update(shape=[1]), "manifest-invalid"),
    "identity": (lambda m: m.update(identity="other"), "other-bundle"),
}


@pytest.mark.parametrize(("edit", "code"), EDITS.values(), ids=EDITS)
def test_a_changed_manifest_is_refused(copy, edit, code):
    change(copy, edit)
    with pytest.raises((BundleError, CheckpointError)) as refusal:
        Trainer(copy)
    assert refusal.value.code == code


def test_unknown_fields_are_ignored(copy):
    change(copy, lambda m: m.update(future={"a": 1}))
    Trainer(copy)


def test_a_link_that_leaves_the_folder_is_refused(copy, tmp_path):
    os.replace(copy / "apply.onnx", tmp_path / "apply.onnx")
    os.symlink(tmp_path / "apply.onnx", copy / "apply.onnx")
    with pytest.raises(BundleError, match="outside"):
        Trainer(copy)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "null", "[]", "\x00"])
def test_a_manifest_that_is_not_an_object_is_refused(copy, text):
    (copy / "training.json").write_text(text)
    with pytest.raises(BundleError) as refusal:
        Trainer(copy)
    assert refusal.value.code == "manifest-invalid"


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(BundleError, match="nothing"):
        Trainer(tmp_path / "nothing")


@pytest.mark.parametrize("keep", [0, 4, 8, 100, -1])
def test_a_truncated_checkpoint_is_refused(bundle, tmp_path, keep):
    path = tmp_path / "checkpoint.safetensors"
    Trainer(bundle).save(path)
    data = path.read_bytes()
    path.write_bytes(data[:keep])
    with pytest.raises(CheckpointError) as refusal:
        Trainer(bundle, resume=path)
    assert refusal.value.code == "file-damaged"


def test_a_header_that_lies_is_refused(bundle, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes((2**62).to_bytes(8, "little") + b"{}")
    with pytest.raises(CheckpointError) as refusal:
        Trainer(bundle, resume=path)
    assert refusal.value.code == "file-damaged"


def test_somebody_else_s_weights_are_neither_read_nor_replaced(bundle, tmp_path):
    path = tmp_path / "mine.safetensors"
    safetensors.numpy.save_file({"a": np.zeros(3)}, path)
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        Trainer(bundle, resume=path)
    with pytest.raises(CheckpointError, match="move that file"):
        Trainer(bundle).save(path)
    assert path.read_bytes() == before


def test_a_crash_while_saving_keeps_the_old_checkpoint(bundle, tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.safetensors"
    trainer = Trainer(bundle)
    trainer.save(path)
    before = path.read_bytes()
    trainer.step(x=np.zeros((2, 4), np.float32), target=[0, 1])

    def crash(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.numpy, "save_file", crash)
    with pytest.raises(CheckpointError, match="No space left"):
        trainer.save(path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == [path.name]
