"""Evidence for people to read. Nothing here ever runs a Subject."""
