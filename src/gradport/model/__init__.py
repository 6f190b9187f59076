"""The ONNX model as people hold it: Program, its files, its sessions.

In: an onnx-ir model, or a file that may be anybody's. Out: a Program that runs, saves and loads. Never: a change of the
model.
"""
