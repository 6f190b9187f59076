"""Measured results: Findings, Evidence and its schema, tolerances, settings of pyproject.toml, changes.

Input: figures and sentences. Output: Evidence, also as JSON. Never calls a Subject or runs a model.
"""

from gradport.evidence.evidence import Evidence, Finding, Outcome, Severity, environment, schema

__all__ = ["Evidence", "Finding", "Outcome", "Severity", "environment", "schema"]
