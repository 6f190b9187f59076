"""Trains a gradport bundle on stock ONNX Runtime. Needs numpy, onnxruntime and safetensors; no torch."""

import gradport_runtime.privacy  # noqa: F401, I001  # first: before onnxruntime is loaded

from gradport_runtime.bundle import Bundle
from gradport_runtime.errors import BundleError, CheckpointError, Code, Error, InputError, TrainingError
from gradport_runtime.trainer import Trainer

__all__ = ["Bundle", "BundleError", "CheckpointError", "Code", "Error", "InputError", "Trainer", "TrainingError"]
