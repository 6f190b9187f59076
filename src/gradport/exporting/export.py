"""export: Subject to Program. The one place that joins trace, lowering, forms and proof."""

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
    """Exports a Function, a callable or a module to ONNX, with the gradients that `wrt` asks for.

    Args:
        subject: a `Subject`, or an `autograd.Function`, `nn.Module` or callable.
        args, kwargs: example arguments; every tensor leaf becomes a graph input, other leaves are fixed.
        wrt: which gradients: None (the forward alone), "inputs", "parameters", "all", a name or a list of names.
        loss: `loss(result, *targets)` giving a scalar, or the name of a scalar output. Without one the graph takes
            a cotangent for each differentiable output and gives the vector-Jacobian product.
        targets: example targets for `loss`; graph inputs.
        outputs: "all", a list of outputs, or None: all without a loss, none with it.
        functions: "keep" a local function per phase, "inline" ai.onnx operators alone, "opaque" one node per phase,
            "symbolic" the forward that an existing `symbolic()` writes, or a mapping from Function to one of these.
        fallback: whether an opaque node's body ships with it.
        dynamic_shapes: torch.export's form, or flat by input name; equal names are one dimension.
        opset_version: 18 to 25; None: what `torch.onnx.export` writes by default.
        input_names, output_names: a list for the first n, or a mapping from default to new name.
        random: what becomes of random numbers: "input" (standard draws are graph inputs, listed in
            `Program.random`), "runtime" (ONNX's generators draw them), "off" (each draw is its mean, so dropout is the
            identity).
        finite_math: allow rewrites that are wrong where values are inf or nan: masks as plain products.
        verify: whether the Program is run against eager, every output and gradient, before it is handed out.

    Returns:
        The Program, in the state of training that the module stands in.

    Raises:
        ExportError: it cannot be carried, or the proof fails; nothing was written.
        SpecError: an option, a name or a shape does not hold together.
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
    """Traces, lowers, names and proves a Joint, be it a Subject's or a training step's; the options are `export`'s."""
    opset, forms = require_options(functions=functions, opset_version=opset_version, random=random)
    require_working_export(opset)
    dimensions = resolve_dimensions(joint, joint.subject.dynamic_shapes)
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
    """The opset and the forms that these options of `export` mean.

    Raises:
        SpecError: one of them means nothing.
    """
    if random not in _RANDOM:
        raise SpecError(f"random={random!r} is none of {', '.join(_RANDOM)}.")
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
    """A trace as a Program that nobody has proved: lowered, rewritten, cut into functions and named."""
    with quiet():  # what a library's pass cannot work out, it says with a traceback
        flat = lower(trace, opset)
        gate_recomputation(flat.model.graph, trace.recomputed, flat.weights())
        rewrite(flat.model, finite_math=options["finite_math"])
        outlined = apply_forms(flat, forms, fallback=fallback)
        if not trace.regions:  # calls and bodies of Functions are told apart and counted
            share(outlined.model)
        return assemble(outlined, input_names=input_names, output_names=output_names, options=options)


def _locate(trace: Trace, opset: int, finite_math: bool, case: InputSet, answer: Reference) -> Departure | None:
    """The first operator that departs on a case; None where that cannot be said."""
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
        raise SpecError(f"opset_version={chosen} is outside the range that works, {OPSETS.start} to {OPSETS.stop - 1}.")
    return chosen


def _runs_in_stock_runtime(program: Program) -> bool:
    """False where a node waits for somebody's own kernel (an opaque one without fallback, a custom symbolic)."""
    model = program.model
    known = {identifier[:2] for identifier in model.functions} | {("", "")}
    bodies = [model.graph, *(function.graph for function in model.functions.values())]
    return all(
        node.domain == "" or (node.domain, node.op_type) in known for body in bodies for node in body.all_nodes()
    )
