"""Surveys the files of folders or installed packages, and links them."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator, Mapping

from gradport.documenting.exercised import suites_of
from gradport.documenting.links import link_files
from gradport.documenting.syntax import survey_file
from gradport.errors import TargetError
from gradport.evidence.survey import FileSurvey

__all__ = ["survey_folder", "survey_folders"]


def survey_folder(root: pathlib.Path) -> dict[str, FileSurvey]:
    """Surveys every Python file of a folder, or one file; keys are paths below the root. See `survey_folders`."""
    return survey_folders({"": root})


def survey_folders(
    roots: Mapping[str, pathlib.Path], *, left_out: Callable[[str], None] = lambda why: None
) -> dict[str, FileSurvey]:
    """Surveys every Python file of several folders or files, and links them.

    Adds the results of `link_files` to the `series` of `survey_file`.

    Args:
        roots: folders and files by the prefix of their files' paths.
        left_out: called with a sentence about each file that cannot have a page.

    Raises:
        TargetError: a root has no Python file.
    """
    surveyed: dict[str, FileSurvey] = {}
    for under, root in roots.items():
        files = dict(_files(root, under, left_out))
        if not files:
            raise TargetError(f"{root} has no Python file.")
        surveyed |= files
    has_functions = any(survey.autograd for survey in surveyed.values())
    suites = [suite for root in roots.values() for suite in suites_of(root)] if has_functions else []
    return link_files(surveyed, suites)


def _files(root: pathlib.Path, under: str, left_out: Callable[[str], None]) -> Iterator[tuple[str, FileSurvey]]:
    base = root.parent if root.is_file() else root
    for file in [root] if root.is_file() else sorted(_python_files(root)):
        name = (pathlib.PurePath(under) / file.relative_to(base)).as_posix()
        if not name.isprintable():
            left_out(f"{name!a} cannot be the name of a page.")
            continue
        try:
            yield name, survey_file(file, _module(file, base))
        except TargetError as error:
            left_out(str(error))  # a template, or Python 2


def _python_files(root: pathlib.Path) -> Iterator[pathlib.Path]:
    for file in root.rglob("*.py"):
        parts = file.relative_to(root).parts
        if file.is_file() and not any(
            part.startswith(".") or part in ("__pycache__", "node_modules") for part in parts
        ):
            yield file


def _module(file: pathlib.Path, base: pathlib.Path) -> str:
    """The import name of a file: from the topmost folder with an `__init__.py`, or from the root."""
    top = base
    while (top / "__init__.py").is_file():
        top = top.parent
    parts = list(file.relative_to(top).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
