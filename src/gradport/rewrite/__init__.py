"""ONNX to ONNX: one file per rewrite."""

from gradport.rewrite.generators import draw_at_run_time

__all__ = ["draw_at_run_time"]
