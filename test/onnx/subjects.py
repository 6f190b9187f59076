"""Inputs for the Functions of this folder: `gradport docs test/onnx` measures what stands here."""

import autograd_helper

import gradport

SUBJECTS = [gradport.Subject(autograd_helper.CustomFunction, gradport.tensor("f32[batch:4,6]"))]
