"""A folder that trains on stock ONNX Runtime: gradients, the optimizer's step, evaluation, prediction, and their state.

Input: a Subject with a loss, and an optimizer. Output: a proved Training that saves as a bundle. Never: a step of the
user's own optimizer or a change of the user's module.
"""

from gradport.training.bundle import Training, load_training
from gradport.training.exporting import export_training

__all__ = ["Training", "export_training", "load_training"]
