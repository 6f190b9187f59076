"""A Subject run in torch: as one function of named tensors, with an optimizer, with given draws, on fresh inputs.

In: a Subject and tensors. Out: its outputs, loss, gradients and new state. Never: ONNX.
"""
