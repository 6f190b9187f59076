"""What the tests of lowerings share: a target is exported, proved, and verified once more on inputs of its own."""

import gradport

__all__ = ["proved"]


def proved(target, args, shapes=None, wrt="inputs", inputs=None, skip=(), **options):
    program = gradport.export(target, args, wrt=wrt, dynamic_shapes=shapes, functions="inline", **options)
    evidence = gradport.verify(program, target, args, runtimes=["onnxruntime"], inputs=inputs, skip=skip, budget=0.2)
    assert evidence.ok, [finding.message for finding in evidence.findings if finding.outcome != "ok"]
    return program
