"""Operators of torch that its exporter does not lower, or lowers wrongly: the table of them and a file per family.

In: the arguments of one operator. Out: ONNX operators (`families/`), other operators of torch (`decompositions/`), or
the same above autograd (`written/`). Never: a look at the graph around it.
"""
