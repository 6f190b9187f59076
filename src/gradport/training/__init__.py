"""A folder that trains on stock ONNX Runtime: gradients, the optimizer's step, evaluation, prediction, and their state.

Input: a Subject with a loss, and an optimizer. Output: a proved Training that saves as a bundle. Never: a step of the
user's own optimizer or a change of the user's module.
"""

from gradport.compat.extras import Extra, extra

with extra(Extra.TRAINING, "Training bundles"):
    import gradport_runtime  # noqa: F401  the rest of the room imports it

from gradport.training.bundle import Training, load_training
from gradport.training.exporting import export_training

__all__ = ["Training", "export_training", "load_training"]
