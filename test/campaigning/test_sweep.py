"""Sweeps: every combination has a cell, and a cell says what happened."""

import importlib
import io

import pytest
import torch

import gradport
from gradport.reporting.terminal import sweep_table

from ..exporting import functions as fn

SUBJECT = gradport.Subject(fn.Swish, gradport.tensor("f32[batch:4,3]"), wrt="inputs")


def cells(evidence):
    return {cell["cell"]: cell["outcome"] for cell in evidence.series["sweep"]}


@pytest.mark.corpus
def test_every_combination_has_a_cell():
    evidence = gradport.sweep(SUBJECT, opsets=(18, 20), functions=("keep", "inline"), dynamic=(True, False), budget=0.1)
    assert len(evidence.series["sweep"]) == len(evidence.findings) == 8
    assert set(cells(evidence).values()) == {"ok"}
    assert evidence.ok
    assert gradport.Evidence.from_json(evidence.to_json()).series == evidence.series


def test_dtypes_and_runtimes_and_what_has_no_kernel():
    evidence = gradport.sweep(
        SUBJECT, dtypes=(torch.float16, torch.bfloat16), runtimes=("onnxruntime", "reference"), budget=0.1
    )
    assert cells(evidence)["f16-onnxruntime"] == "ok"
    assert cells(evidence)["bf16-onnxruntime"] == "no kernel"
    assert evidence.ok


def test_what_is_refused_says_why():
    evidence = gradport.sweep(SUBJECT, opsets=(17, 20), budget=0.1)
    assert cells(evidence) == {"opset17": "refused", "opset20": "ok"}
    assert "not supported" in evidence.findings[0].message
    assert not evidence.ok


def test_a_wrong_cell_is_failed(monkeypatch):
    room = importlib.import_module("gradport.campaigning.settings")
    export = room.export
    monkeypatch.setattr(
        room, "export", lambda subject, **options: export(subject.replace(target=lambda x: x * 3), **options)
    )
    assert cells(gradport.sweep(SUBJECT, opsets=(20,), budget=0.1)) == {"opset20": "failed"}


def test_the_matrix_is_shown():
    from rich.console import Console

    console = Console(width=120, record=True, file=io.StringIO())
    console.print(sweep_table("sweep", gradport.sweep(SUBJECT, opsets=(18, 20), functions=("keep",), budget=0.1)))
    text = console.export_text()
    for words in ("opset 18", "opset 20", "keep", "ok"):
        assert words in text
