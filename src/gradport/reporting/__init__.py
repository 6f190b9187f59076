"""Reports of Evidence: in a terminal, and as pages.

Input: Evidence. Output: text, HTML, Markdown. Never runs a Subject.
"""
