"""implicit: the gradient of a solution, whatever found it."""
