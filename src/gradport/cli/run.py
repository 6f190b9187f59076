"""`gradport run TARGET INPUT...`: check, export and verify, and write the result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradport.cli.export import export_target, file_stem, require_exportable, save
from gradport.cli.options import (
    Atol,
    Budget,
    Expect,
    Functions,
    Inputs,
    Json,
    Loss,
    NoFallback,
    Opset,
    Out,
    Outputs,
    Profile,
    Random,
    Rtol,
    Seed,
    Sizes,
    Target,
    TimeLimit,
    Wrt,
    factor,
    names,
    parse_expectations,
    sizes_of,
)
from gradport.cli.page import write_page
from gradport.cli.session import Session, require_writable, session
from gradport.cli.target import load_subject
from gradport.errors import Error
from gradport.reporting.files import write_text

if TYPE_CHECKING:
    from gradport.evidence.evidence import Evidence

__all__ = ["run"]


def run(
    target: Target,
    inputs: Inputs = None,
    *,
    wrt: Wrt = None,
    loss: Loss = None,
    outputs: Outputs = None,
    expect: Expect = None,
    functions: Functions = "keep",
    no_fallback: NoFallback = False,
    random: Random = "input",
    opset: Opset = None,
    sizes: Sizes = None,
    seed: Seed = 0,
    profile: Profile = "default",
    budget: Budget = "1",
    time_limit: TimeLimit = None,
    rtol: Rtol = None,
    atol: Atol = None,
    out: Out = Path("gradport-out"),
    as_json: Json = False,
) -> None:
    """Check, export and verify a Function; write the model and the evidence."""
    with session("run", as_json) as current:
        work, wanted = factor(budget), sizes_of(sizes)
        require_writable(out)
        subject = load_subject(
            target, inputs or [], loss=loss, seed=seed, outputs=names(outputs), expect=parse_expectations(expect)
        )
        with current.step("importing"):
            from gradport.checking import check
            from gradport.reporting.terminal import evidence_table
            from gradport.verifying import verify
        options = {"functions": functions, "fallback": not no_fallback, "random": random, "opset_version": opset}
        require_exportable(subject, wrt, options)
        stem = out / file_stem(subject.name)
        evidences: list[tuple[str, Any]] = []
        with current.step(f"checking {subject.name}"):
            checked = check(subject, seed=seed, profile=profile, budget=work, time_limit=time_limit)
        current.show(evidence_table(f"check {subject.name}", checked))
        current.result |= {"subject": subject.name, "ok": checked.ok}
        # written at once: it stays if the export is refused or interrupted
        _write_evidence(current, stem, "check", checked)
        evidences.append((f"gradport check {target}", checked))
        try:
            program = export_target(current, subject, wrt, **options)
        except Error:
            write_page(current, stem.with_name(f"{stem.name}.html"), subject.name, evidences)
            raise
        with current.step(f"verifying {subject.name}"):
            verified = verify(
                program,
                subject,
                sizes=wanted,
                seed=seed,
                budget=work,
                time_limit=time_limit,
                rtol=rtol,
                atol=atol,
                reproducer=stem.with_name(f"{stem.name}.reproducer"),
            )
        current.show(evidence_table(f"verify {subject.name} on {len(verified.series['cases'])} inputs", verified))
        current.result["ok"] = checked.ok and verified.ok
        save(current, program, stem.with_name(f"{stem.name}.onnx"))
        _write_evidence(current, stem, "verify", verified)
        evidences.append((f"gradport verify {stem.name}.onnx --against {target}", verified))
        write_page(current, stem.with_name(f"{stem.name}.html"), subject.name, evidences, model=f"{stem.name}.onnx")


def _write_evidence(current: Session, stem: Path, kind: str, evidence: Evidence) -> None:
    """Writes Evidence next to the model, and adds it to the result."""
    path = stem.with_name(f"{stem.name}.{kind}.json")
    write_text(path, evidence.to_json())
    current.result[kind] = evidence.to_dict()
    current.result.setdefault("files", []).append(str(path))
    current.say(f"wrote {path}")
