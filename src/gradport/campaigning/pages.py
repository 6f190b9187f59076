"""Writes the page of a campaign, with its Evidence beside it."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gradport.campaigning.comparing import Difference, Kind
from gradport.campaigning.store import Row, Store, count_outcomes
from gradport.errors import OutputError
from gradport.evidence.evidence import Evidence
from gradport.reporting.files import write_text
from gradport.reporting.matrix import Cell, matrix_html
from gradport.reporting.run import run_html

if TYPE_CHECKING:
    from gradport.campaigning.campaign import Campaign

__all__ = ["write_page"]


def write_page(
    campaign: Campaign, path: str | os.PathLike[str], differences: Sequence[Difference], *, compared: bool
) -> None:
    """See `Campaign.to_html`."""
    place = pathlib.Path(path)
    folder = place.with_name(f"{place.stem}-evidence")
    rows = campaign.rows()
    changes = {_key(one.after or one.before): one for one in differences}
    gone = [one.before for one in differences if one.kind is Kind.GONE and one.before is not None]
    cells = [_cell(row, changes.get(row.id)) for row in rows] + [_cell(row, changes[row.id]) for row in gone]
    versions = sorted({f"{name} {version}" for row in rows for name, version in row.versions.items() if name in _SHOWN})
    page = matrix_html(
        f"Campaign: {', '.join(dict.fromkeys(os.path.basename(row.source.rstrip('/')) for row in rows))}",
        cells,
        counts=count_outcomes(rows),
        versions=", ".join(versions),
        store=os.path.basename(campaign.store),
        folder=folder.name,
        compared=compared,
    )
    _write_evidence(campaign, rows, folder)
    write_text(place, page)


_SHOWN = ("gradport", "torch", "onnxruntime", "python")


def _key(row: Row | None) -> str:
    assert row is not None
    return row.id


def _cell(row: Row, difference: Difference | None) -> Cell:
    gone = difference is not None and difference.kind is Kind.GONE
    return Cell(
        row.subject,
        row.column,
        str(row.outcome),
        row.message,
        row.seconds,
        row.processor_seconds,
        row.peak,
        "" if row.figure is None else f"{row.figure:.3g} {row.unit}",
        row.where,
        "" if gone or not row.evidence else _file_name(row),
        row.id,
        row.output,
        "" if difference is None else str(difference.kind),
        "" if difference is None else difference.message,
        row.python,
    )


def _file_name(row: Row) -> str:
    """A page where somebody will look, JSON otherwise: a page costs 2 ms and 30 KB."""
    return f"{row.evidence}.{'json' if row.outcome.passes else 'html'}"


def _write_evidence(campaign: Campaign, rows: Sequence[Row], folder: pathlib.Path) -> None:
    """A file for each Evidence, by its hash; those that are there already are equal."""
    files = {_file_name(row): row for row in rows if row.evidence}
    try:
        if files:
            folder.mkdir(parents=True, exist_ok=True)
        with Store(campaign.store) as store:
            for name, row in files.items():
                if not (folder / name).exists():
                    text = store.evidence(row.evidence)
                    write_text(folder / name, text if name.endswith(".json") else _evidence_page(row, text))
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror or error}.") from error


def _evidence_page(row: Row, text: str) -> str:
    source = f"{row.subject}: {row.column}"
    return run_html(source, [(source, Evidence.from_json(text))])
