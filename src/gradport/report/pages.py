"""The pages of a folder as Markdown: a card and a keyword index a file, an index and an overview a folder.

Evidence is all that goes in. What stands in it is anybody's: every text is escaped for Markdown and HTML, control
characters become U+FFFD.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from gradport.evidence import Evidence
from gradport.report.plots import curve_plot

__all__ = ["pages"]

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u202a-\u202e\u2066-\u2069]")
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")


def pages(surveyed: Mapping[str, Evidence], measured: Mapping[str, Sequence[Evidence]]) -> dict[str, str]:
    """Every page by its path below the output folder.

    Args:
        surveyed: the Evidence of each file by its path, as `survey_folder` gives it.
        measured: what was measured of single Functions, by `file:Function`.
    """
    made: dict[str, str] = {}
    folders: dict[str, list[str]] = {}
    for path in surveyed:
        folders.setdefault(posixpath.dirname(path), []).append(path)
    for parent in {parent for folder in list(folders) for parent in _parents(folder)}:
        folders.setdefault(parent, [])
    for path, evidence in surveyed.items():
        made[f"{path}_docs.md"] = _card(path, evidence, surveyed, measured)
        made |= _plots(path, evidence, measured)
        made[f"{path}_kw.md"] = _keywords(path, evidence)
    for folder, files in folders.items():
        made[posixpath.join(folder, "index.md")] = _index(folder, files, folders, surveyed, measured)
        made[posixpath.join(folder, "doc.md")] = _overview(folder, surveyed)
    return made


def _environment(here: str) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("gradport.report"), trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    environment.filters |= {
        "md": _text,
        "cell": lambda text: _text(" ".join(str(text).split())),
        "first_line": lambda text: str(text).strip().splitlines()[0],
        "code": _code,
        "codes": lambda names: ", ".join(f"`{_code(name)}`" for name in names) or "none",
        "fence": _fence,
        "mermaid": lambda text: re.sub(r"[^\w .:/-]", "?", _plain(text)),
        "node": lambda text: re.sub(r"\W", "_", _plain(text)),
        "link": lambda path: posixpath.relpath(f"{path}_docs.md", posixpath.dirname(here) or "."),
        "patterns": _patterns,
        "specs": lambda arguments: " ".join(f"{name.lstrip('*')}=f32[batch,16]" for name in arguments),
    }
    return environment


def _card(
    path: str,
    evidence: Evidence,
    surveyed: Mapping[str, Evidence],
    measured: Mapping[str, Sequence[Evidence]],
) -> str:
    folder = posixpath.dirname(path)
    cards = {
        name: [_measured(one, plot) for one, plot in zip(found, _plot_names(path, name, found), strict=True)]
        for name, found in _of(path, evidence, measured).items()
    }
    return (
        _environment(path)
        .get_template("card.md.j2")
        .render(
            name=posixpath.basename(path),
            path=path,
            trail=" / ".join(f"`{part}`" for part in path.split("/")),
            source=evidence.source,
            measured=cards,
            neighbours=[other for other in surveyed if posixpath.dirname(other) == folder and other != path],
            **{key: evidence.series[key] for key in _SERIES},
        )
    )


_SERIES = ("imported_by", "called_by", "related", "security", "security_patterns")


def _of(path: str, evidence: Evidence, measured: Mapping[str, Sequence[Evidence]]) -> dict[str, Sequence[Evidence]]:
    """What was measured of each Function of a file; those without are left out."""
    found = {entry["name"]: measured.get(f"{path}:{entry['name']}", ()) for entry in evidence.source["autograd"]}
    return {name: evidences for name, evidences in found.items() if evidences}


def _plots(path: str, evidence: Evidence, measured: Mapping[str, Sequence[Evidence]]) -> dict[str, str]:
    """The curves of each Function, as files beside the card."""
    made = {}
    for name, found in _of(path, evidence, measured).items():
        for one, plot in zip(found, _plot_names(path, name, found), strict=True):
            if one.series.get("curves"):
                made[posixpath.join(posixpath.dirname(path), plot)] = curve_plot(one.subject, one.series["curves"])
    return made


def _plot_names(path: str, name: str, found: Sequence[Evidence]) -> list[str]:
    return [f"{posixpath.basename(path)}_{name}_{index}.svg" for index in range(len(found))]


def _measured(evidence: Evidence, plot: str) -> dict[str, Any]:
    kinds = [finding for finding in evidence.findings if finding.rule == "differences"]
    onnx = evidence.series.get("onnx")
    return {
        "gradient": "; ".join(finding.message for finding in kinds) or "No finding says what it is.",
        "plot": plot if evidence.series.get("curves") else "",
        "findings": [vars(finding) for finding in evidence.findings],
        "onnx": onnx,
        "edges": _edges(onnx["functions"]) if onnx else [],
        "refused": evidence.series.get("refused", ""),
        "timings": evidence.series.get("timings", {}),
    }


def _edges(functions: Sequence[Mapping[str, Any]]) -> list[tuple[int, int]]:
    """From the forward of a Function to its backward, by their places in the list."""
    by_phase: dict[str, list[tuple[int, str]]] = {"forward": [], "backward": []}
    for index, function in enumerate(functions, 1):
        phase = function["phase"]
        by_phase[phase].append((index, function["name"].rpartition(f".{phase}")[0]))
    return [(a, b) for a, one in by_phase["forward"] for b, other in by_phase["backward"] if one == other]


def _keywords(path: str, evidence: Evidence) -> str:
    concepts = sorted({pattern for entry in evidence.source["autograd"] for pattern in _patterns(entry)})
    template = _environment(path).get_template("keywords.md.j2")
    return template.render(name=posixpath.basename(path), source=evidence.source, concepts=concepts)


def _index(
    folder: str,
    files: Sequence[str],
    folders: Mapping[str, Sequence[str]],
    surveyed: Mapping[str, Evidence],
    measured: Mapping[str, Sequence[Evidence]],
) -> str:
    rows = [
        {
            "name": posixpath.basename(path),
            "purpose": (surveyed[path].source["docstring"].strip().splitlines() or [""])[0],
            "outcome": _outcome(path, surveyed[path], measured),
        }
        for path in files
    ]
    children = sorted(posixpath.basename(other) for other in folders if other and posixpath.dirname(other) == folder)
    template = _environment(posixpath.join(folder, "index.md")).get_template("index.md.j2")
    return template.render(folder=folder or ".", files=rows, children=children)


def _outcome(path: str, evidence: Evidence, measured: Mapping[str, Sequence[Evidence]]) -> str:
    names = [entry["name"] for entry in evidence.source["autograd"]]
    if not names:
        return ""
    found = [one for name in names for one in measured.get(f"{path}:{name}", ())]
    if not found:
        return f"{len(names)} Functions, not measured"
    return f"{sum(one.ok for one in found)} of {len(found)} hold"


def _overview(folder: str, surveyed: Mapping[str, Evidence]) -> str:
    inside = {path: evidence for path, evidence in surveyed.items() if posixpath.dirname(path) == folder}
    edges = [
        (posixpath.basename(importer), posixpath.basename(path))
        for path, evidence in inside.items()
        for importer in evidence.series["imported_by"]
        if importer in inside
    ]
    purpose = next((e.source["docstring"] for p, e in inside.items() if posixpath.basename(p) == "__init__.py"), "")
    template = _environment(posixpath.join(folder, "doc.md")).get_template("folder.md.j2")
    return template.render(folder=folder or ".", purpose=purpose, edges=edges)


def _patterns(entry: Mapping[str, Any]) -> list[str]:
    found = ["setup_context apart from forward" if "setup_context" in entry["has"] else "ctx in forward"]
    found += ["saves tensors for backward"] if entry["saved"] else ["saves nothing for backward"]
    found += ["keeps values on ctx"] if entry["kept_on_ctx"] else []
    found += ["once differentiable"] if entry["once_differentiable"] else []
    found += [f"has {name}" for name in entry["has"] if name != "setup_context"]
    return found


def _parents(folder: str) -> list[str]:
    parts = folder.split("/") if folder else []
    return ["/".join(parts[:count]) for count in range(len(parts))]


def _plain(text: Any) -> str:
    return _CONTROL.sub("\ufffd", str(text))


def _text(text: Any) -> str:
    return _SPECIAL.sub(r"\\\1", _plain(text)).replace("\\<", "&lt;").replace("\\>", "&gt;")


def _code(text: Any) -> str:
    return _plain(" ".join(str(text).split())).replace("`", "'")


def _fence(text: str, language: str) -> str:
    """A code block whose fence is longer than every run of backticks in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{_plain(text).rstrip()}\n{fence}"
