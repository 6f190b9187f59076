"""Limits: forked child processes, time limits, and the amount of work.

In: a callable, or the profile, budget and time limit of a call. Out: its result, or the exit status of its process.
Never: a Subject or a model.
"""
