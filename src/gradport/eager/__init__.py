"""Runs a Subject in torch: as one function of named tensors, with an optimizer, with given random draws, on new inputs.

In: a Subject and tensors. Out: its outputs, loss, gradients and new state. Never: ONNX.
"""
