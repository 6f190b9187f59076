"""Many Subjects under many settings: plans cases, runs them in parallel and isolated, stores and compares results.

Input: Subjects, or the places where they stand. Output: a store of rows with Evidence. Never runs a user's code in the
process of the campaign, unless it is asked to.
"""
