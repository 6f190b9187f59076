"""Runs a Subject in torch: as one function of named tensors, with an optimizer, with given random draws, on new inputs.

Input: a Subject and tensors. Output: its outputs, loss, gradients and new state. Never: ONNX.
"""
