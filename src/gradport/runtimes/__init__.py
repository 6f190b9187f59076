"""The table of what runs a model, and its rows: ONNX Runtime at each level, CUDA, ONNX's reference evaluator.

In: a Program. Out: a function from tensors to tensors. Never: a judgement of what it gives.
"""
