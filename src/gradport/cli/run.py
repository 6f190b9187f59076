"""`gradport run TARGET INPUT...`: check, export and verify, and write the result."""

from __future__ import annotations

from pathlib import Path

from gradport.cli.export import exported, file_stem, save
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
    Random,
    Rtol,
    Seed,
    Sizes,
    Target,
    Wrt,
    expected,
    names,
    seconds,
    sizes_of,
)
from gradport.cli.page import write_page
from gradport.cli.session import require_writable, session, write_text
from gradport.cli.target import load_subject

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
    budget: Budget = None,
    rtol: Rtol = None,
    atol: Atol = None,
    out: Out = Path("gradport-out"),
    as_json: Json = False,
) -> None:
    """Check, export and verify a Function; write the model and the evidence."""
    with session("run", as_json) as current:
        limit, wanted = seconds(budget), sizes_of(sizes)
        require_writable(out)
        subject = load_subject(target, inputs or [], loss=loss, outputs=names(outputs), expect=expected(expect))
        with current.step("importing"):
            from gradport.check import check
            from gradport.report.terminal import evidence_table
            from gradport.verify import verify
        with current.step(f"checking {subject.name}"):
            checked = check(subject, seed=seed, budget=limit)
        current.show(evidence_table(f"check {subject.name}", checked))
        current.result |= {"subject": subject.name, "ok": checked.ok, "check": checked.to_dict()}
        program = exported(
            current,
            subject,
            wrt,
            functions=functions,
            fallback=not no_fallback,
            random=random,
            opset_version=opset,
        )
        with current.step(f"verifying {subject.name}"):
            verified = verify(
                program,
                subject,
                sizes=wanted,
                seed=seed,
                budget=limit,
                rtol=rtol,
                atol=atol,
                reproducer=out / f"{file_stem(subject.name)}.reproducer",
            )
        current.show(evidence_table(f"verify {subject.name} on {len(verified.series['cases'])} inputs", verified))
        current.result |= {"ok": checked.ok and verified.ok, "verify": verified.to_dict()}
        stem = file_stem(subject.name)
        save(current, program, out / f"{stem}.onnx")
        for kind, evidence in (("check", checked), ("verify", verified)):
            write_text(out / f"{stem}.{kind}.json", evidence.to_json())
            current.result["files"].append(str(out / f"{stem}.{kind}.json"))
            current.say(f"wrote {out / f'{stem}.{kind}.json'}")
        found = [(f"gradport check {target}", checked), (f"gradport verify {stem}.onnx --against {target}", verified)]
        write_page(current, out / f"{stem}.html", subject.name, found, model=f"{stem}.onnx")
