"""What a card needs beside the checks: curves, Jacobians, errors, forms, timings of one Subject.

In: a Subject. Out: figures, as plain data. Never: pages.
"""
