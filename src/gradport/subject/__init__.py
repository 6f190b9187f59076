"""Describes a Subject: its input specs, the names and sizes of its inputs, the places in its source.

Input: the arguments of `gradport.Subject`. Output: frozen descriptions. Never calls the Subject.
"""
