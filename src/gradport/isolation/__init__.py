"""Limits: child processes made by fork, limits of time, and how much work is done.

In: a callable, or the profile, budget and time limit of a call. Out: its result, or how its process ended. Never: what
a Subject or a model is.
"""
