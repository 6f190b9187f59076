"""Evidence for people: in a terminal, and as pages.

In: Evidence. Out: text, HTML, Markdown. Never: a run of a Subject.
"""
