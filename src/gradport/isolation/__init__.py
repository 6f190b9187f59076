"""Limits: forked child processes, time limits, and the amount of work.

Input: a callable, or the profile, budget and time limit of a call. Output: its result, or the exit status of its
process. Never: a Subject or a model.
"""
