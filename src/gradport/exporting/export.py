"""export: from a Subject to a Program. The only place that joins tracing, lowering, forms and the check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gradport.compat.quiet import quiet
from gradport.compat.torch.exporter import default_opset
from gradport.eager.dimensions import resolve_dimensions
from gradport.eager.inputs import with_example
from gradport.eager.joint import Joint
from gradport.eager.randomness import Expected
from gradport.errors import Error, SpecError
from gradport.exporting.garbage import paused_collector
from gradport.exporting.selftest import require_working_export
from gradport.lowering import OPSETS, Form, apply_forms, assemble, decomposition_table, forms_of, lower
from gradport.lowering.passes import draw_at_run_time, gate_recomputation, rewrite, share
from gradport.model.program import Program
from gradport.proving.answers import InputSet, Reference
from gradport.proving.divergence import Departure, first_departure
from gradport.proving.proof import prove
from gradport.subject.given import Arguments, Forms, Keywords, Loss, Shapes, Target, Targets, Wrt
from gradport.subject.subject import as_subject
from gradport.tracing import Trace, trace_joint

__all__ = ["export", "export_joint", "lower_unproved", "require_options"]

_RANDOM = ("input", "runtime", "off")


def export(
    subject: Target,
    args: Arguments = (),
    kwargs: Keywords = None,
    *,
    wrt: Wrt = None,
    loss: Loss = None,
    targets: Targets = (),
    outputs: str | Sequence[str] | None = None,
    functions: Forms = "keep",
    fallback: bool = True,
    dynamic_shapes: Shapes = None,
    opset_version: int | None = None,
    input_names: Sequence[str] | Mapping[str, str] | None = None,
    output_names: Sequence[str] | Mapping[str, str] | None = None,
    random: str = "input",
    finite_math: bool = False,
    verify: bool = True,
) -> Program:
    """Exports a Function, a callable or a module to ONNX, with the gradients of `wrt`.

    Args:
        subject: a `Subject`, or an `autograd.Function`, `nn.Module` or callable.
        args, kwargs: example arguments; every tensor leaf becomes a graph input, other leaves are fixed.
        wrt: the wanted gradients: None (only the forward), "inputs", "parameters", "all", a name or a list of names.
        loss: `loss(result, *targets)` giving a scalar, or the name of a scalar output. Without a loss the graph takes
            a cotangent for each differentiable output and returns the vector-Jacobian product.
        targets: example targets for `loss`; graph inputs.
        outputs: "all", a list of outputs, or None: all without a loss, none with it.
        functions: "keep" (a local function for each phase), "inline" (only ai.onnx operators), "opaque" (one node for
            each phase), "symbolic" (the forward from an existing `symbolic()`), or a mapping from Function to a form.
        fallback: whether the file contains the body of an opaque node.
        dynamic_shapes: torch.export's form, or flat by input name; equal names are one dimension.
        opset_version: 18 to 25; None: the default of `torch.onnx.export`.
        input_names, output_names: a list for the first n, or a mapping from default to new name.
        random: how random numbers are exported: "input" (standard draws are graph inputs, listed in
            `Program.random`), "runtime" (ONNX's generators draw them), "off" (each draw is its mean, so dropout is the
            identity).
        finite_math: allow rewrites that are wrong if values are inf or nan: masks as plain products.
        verify: whether every output and gradient of the Program is compared with eager before it is returned.

    Returns:
        The Program, in the module's current mode (train or eval).

    Raises:
        ExportError: the subject cannot be exported, or the Program differs from eager; nothing was written.
        SpecError: an option, a name or a shape is invalid.
        TargetError: the subject rejects its own example.
    """
    described = as_subject(
        subject, args, kwargs, wrt=wrt, loss=loss, targets=targets, outputs=outputs, dynamic_shapes=dynamic_shapes
    )
    joint = Joint(with_example(described))
    return export_joint(
        joint,
        functions=functions,
        fallback=fallback,
        opset_version=opset_version,
        input_names=input_names,
        output_names=output_names,
        random=random,
        finite_math=finite_math,
        verify=verify,
    )


def export_joint(
    joint: Joint,
    *,
    functions: Any,
    fallback: bool,
    opset_version: int | None,
    input_names: Sequence[str] | Mapping[str, str] | None,
    output_names: Sequence[str] | Mapping[str, str] | None,
    random: str,
    finite_math: bool,
    verify: bool,
) -> Program:
    """Traces, lowers, names and checks the Joint of a Subject or a training step; the options are those of `export`."""
    opset, forms = require_options(functions=functions, opset_version=opset_version, random=random)
    require_working_export(opset)
    dimensions = resolve_dimensions(joint, joint.subject.dynamic_shapes)
    with paused_collector():
        trace = trace_joint(joint, dimensions, decomposition_table(opset), expected=random == "off")
        program = lower_unproved(
            trace,
            opset,
            forms,
            fallback=fallback,
            input_names=input_names,
            output_names=output_names,
            options={"functions": str(functions), "opset_version": opset, "random": random, "finite_math": finite_math},
        )
    if random == "runtime":
        program = draw_at_run_time(program)
    if verify and _runs_in_stock_runtime(program):
        prove(
            program,
            joint,
            dimensions,
            random=Expected if random == "off" else None,
            locate=lambda case, answer: _locate(trace, opset, finite_math, case, answer),
            special_sizes=trace.special_sizes,
        )
    return program


def require_options(*, functions: Any, opset_version: int | None, random: str) -> tuple[int, Mapping[Any, Form]]:
    """The opset and the forms from these options of `export`.

    Raises:
        SpecError: an option is invalid.
    """
    if random not in _RANDOM:
        raise SpecError(f"random={random!r} is not valid; give one of {', '.join(_RANDOM)}.")
    return _opset(opset_version), forms_of(functions)


def lower_unproved(
    trace: Trace,
    opset: int,
    forms: Mapping[Any, Form],
    *,
    options: Mapping[str, Any],
    fallback: bool = True,
    input_names: Sequence[str] | Mapping[str, str] | None = None,
    output_names: Sequence[str] | Mapping[str, str] | None = None,
) -> Program:
    """Lowers a trace to a Program without a check: translates, rewrites, outlines functions and assigns names."""
    with quiet():  # passes of libraries print tracebacks if they cannot infer something
        flat = lower(trace, opset)
        gate_recomputation(flat.model.graph, trace.recomputed, flat.weights())
        rewrite(flat.model, finite_math=options["finite_math"], training=trace.changes_state())
        outlined = apply_forms(flat, forms, fallback=fallback)
        if not trace.regions:  # merging would change calls and bodies of Functions
            share(outlined.model)
        return assemble(outlined, input_names=input_names, output_names=output_names, options=options)


def _locate(trace: Trace, opset: int, finite_math: bool, case: InputSet, answer: Reference) -> Departure | None:
    """The first operator that differs on a case; None if it cannot be determined."""
    try:
        inline = lower_unproved(trace, opset, forms_of("inline"), options={"finite_math": finite_math})
        return first_departure(trace, inline, lambda program: program.run_named, case.tensors, answer)
    except Error:
        return None


def _opset(version: int | None) -> int:
    chosen = default_opset() if version is None else version
    if not isinstance(chosen, int) or isinstance(chosen, bool):
        raise SpecError(f"opset_version={chosen!r} is not a whole number; give {OPSETS.start} to {OPSETS.stop - 1}.")
    if chosen not in OPSETS:
        raise SpecError(f"opset_version={chosen} is not supported; give {OPSETS.start} to {OPSETS.stop - 1}.")
    return chosen


def _runs_in_stock_runtime(program: Program) -> bool:
    """False if a node needs a custom kernel (an opaque node without fallback, a custom symbolic)."""
    model = program.model
    known = {identifier[:2] for identifier in model.functions} | {("", "")}
    bodies = [model.graph, *(function.graph for function in model.functions.values())]
    return all(
        node.domain == "" or (node.domain, node.op_type) in known for body in bodies for node in body.all_nodes()
    )
