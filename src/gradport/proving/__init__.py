"""Compares a Program with eager torch: every output and gradient, and the first operator that differs.

Input: a Program and the Joint that it was made from. Output: nothing, or an error. Never changes the model.
"""
