"""The ONNX model for users: Program, its files, its sessions.

Input: an onnx-ir model, or an ONNX file of any exporter. Output: a Program that runs, saves and loads. Never changes
the model.
"""
