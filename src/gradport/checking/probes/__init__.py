"""Code that rules share: calls of a Subject in float64, finite differences, kinds of gradients, Findings."""
