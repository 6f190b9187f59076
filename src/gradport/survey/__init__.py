"""What a card needs beside the checks: structure, callers, what a reviewer would stop at, curves. Gives Evidence."""

from gradport.survey.excerpts import with_excerpts
from gradport.survey.folder import survey_folder, survey_folders
from gradport.survey.syntax import survey_file

__all__ = ["survey_file", "survey_folder", "survey_folders", "with_excerpts"]
