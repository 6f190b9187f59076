"""Trains a gradport bundle on stock ONNX Runtime. Needs numpy, onnxruntime and safetensors; no torch."""

from gradport_runtime.bundle import Bundle
from gradport_runtime.errors import BundleError, CheckpointError, Code, Error, InputError, TrainingError
from gradport_runtime.trainer import Trainer

__all__ = ["Bundle", "BundleError", "CheckpointError", "Code", "Error", "InputError", "Trainer", "TrainingError"]
