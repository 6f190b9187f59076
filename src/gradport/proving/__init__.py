"""A Program beside eager torch: every output and gradient, and the first operator that differs.

In: a Program and the Joint that it was made from. Out: nothing, or a refusal. Never: a change of the model.
"""
