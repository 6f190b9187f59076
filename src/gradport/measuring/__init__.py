"""Measurements for a card besides the checks: curves, Jacobians, errors, forms, timings of one Subject.

In: a Subject. Out: figures, as plain data. Never: pages.
"""
