"""The table of runtimes and its rows: ONNX Runtime at each level, CUDA, ONNX's reference evaluator.

Input: a Program. Output: a function from tensors to tensors. Never judges the results.
"""
