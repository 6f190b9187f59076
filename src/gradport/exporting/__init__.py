"""The one place that joins tracing, lowering and proving: for gradients (`export`) and for a training step.

Input: a Subject and options. Output: a proved Program. Never: a change of the model after its proof.
"""
