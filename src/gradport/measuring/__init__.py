"""Measurements for a card besides the checks: curves, Jacobians, errors, forms, timings of one Subject.

Input: a Subject. Output: figures, as plain data. Never: pages.
"""
