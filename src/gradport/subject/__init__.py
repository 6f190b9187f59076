"""What is examined: a Subject, its input specs, the names and sizes of its inputs, the places in its source.

In: what a user gives to `gradport.Subject`. Out: frozen descriptions of it. Never: a call of the Subject.
"""
