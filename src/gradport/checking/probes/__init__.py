"""What rules share: calls of a Subject in float64, derivatives by differences, kinds of gradients, Findings."""
