"""Surveys of files, folders and packages: structure, callers, lines that need review.

Input: paths. Output: Evidence of each file, and its cards. Never: an import of a file without Subjects.
"""

from gradport.documenting.excerpts import with_excerpts
from gradport.documenting.folder import survey_folder, survey_folders
from gradport.documenting.syntax import survey_file

__all__ = ["survey_file", "survey_folder", "survey_folders", "with_excerpts"]
