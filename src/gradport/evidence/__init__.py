"""What was measured: Findings, Evidence and its schema, tolerances, declarations of pyproject.toml, differences.

In: figures and sentences. Out: Evidence, as JSON too. Never: a call of a Subject or a run of a model.
"""

from gradport.evidence.evidence import Evidence, Finding, Outcome, Severity, environment, schema

__all__ = ["Evidence", "Finding", "Outcome", "Severity", "environment", "schema"]
