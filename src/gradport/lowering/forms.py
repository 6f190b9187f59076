"""The forms of a Function in a file: a local function, inlined, one opaque node, or its own `symbolic()`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import onnx_ir as ir
import torch

from gradport.eager.custom_operators import stand_in_of
from gradport.errors import SpecError
from gradport.lowering.attributes import static_attributes
from gradport.lowering.borders import Border, Crossings, argument_names, kept_border, opaque_border
from gradport.lowering.identity import body_hash, domain_of, hash_name
from gradport.lowering.lower import FlatModel
from gradport.lowering.outline import OutlinedModel, OutlinedRegion, Style, outline
from gradport.lowering.symbolic import replay_symbolic
from gradport.subject.ports import Phase
from gradport.subject.subject import as_function
from gradport.tracing import Region

__all__ = ["FORMS", "Form", "apply_forms", "forms_of"]

FORMS = ("keep", "inline", "opaque", "symbolic")


@dataclasses.dataclass(frozen=True)
class Form:
    """One of FORMS; domain and name apply to the opaque form, None means those of the Function."""

    kind: str
    domain: str | None = None
    name: str | None = None


def forms_of(functions: Any) -> Mapping[Any, Form]:
    """`functions=` of export as a mapping from Function to Form; the key None has the form of all others.

    Raises:
        SpecError: an unknown form, or a key that is not a Function.
    """
    if not isinstance(functions, Mapping):
        return {None: _parse(functions)}
    forms: dict[Any, Form] = {None: Form("keep")}
    for key, form in functions.items():
        function = key if key is None else stand_in_of(key) or as_function(key)
        if function is not None and not (isinstance(function, type) and issubclass(function, torch.autograd.Function)):
            raise SpecError(
                f"functions maps {key!r}, which is neither an autograd.Function nor an operator of torch.library."
            )
        forms[function] = _parse(form)
    return forms


def apply_forms(flat: FlatModel, forms: Mapping[Any, Form], *, fallback: bool) -> OutlinedModel:
    """Outlines every Region in its form. Takes over the graph of `flat`.

    Args:
        flat: the flat model.
        forms: the result of `forms_of`.
        fallback: whether the file contains the body of an opaque node.

    Raises:
        ExportError: a static argument cannot be an attribute, or a `symbolic()` cannot be replayed.
    """
    opaque = _Opaque(forms)
    by_kind: dict[str, Style] = {"keep": _Kept(), "opaque": opaque, "symbolic": _Symbolic()}
    regions = flat.trace.regions
    styles = {}
    for key, region in regions.items():
        kind = forms.get(region.function, forms[None]).kind
        if kind != "inline" and not _is_inside_opaque(region, regions, forms):
            styles[key] = by_kind[kind]
    outlined = outline(flat, styles)
    if not fallback:
        for identifier in opaque.identifiers:
            outlined.model.functions.pop(identifier, None)
    return outlined


def _is_inside_opaque(region: Region, regions: Mapping[int, Region], forms: Mapping[Any, Form]) -> bool:
    """Whether a Region is inside an opaque body, which has no functions of its own, so the Region is inlined."""
    parent = region.parent
    while parent is not None:
        around = regions[parent]
        if forms.get(around.function, forms[None]).kind == "opaque":
            return True
        parent = around.parent
    return False


class _Kept:
    """A local function whose name has the hash of its body."""

    def border(self, region: Region, crossings: dict[int, Crossings], regions: Mapping[int, Region]) -> Border:
        return kept_border(region, crossings, regions)

    def place(self, flat: FlatModel, outlined: OutlinedRegion) -> list[ir.Node]:
        call, region = outlined.call, outlined.region
        call.domain = domain_of(region.function)
        call.op_type = hash_name(region.function, region.phase, outlined.body)
        _add_function(flat, outlined, ())
        return [call]


class _Symbolic(_Kept):
    """The forward from an existing `symbolic()`; the backward is a local function."""

    def place(self, flat: FlatModel, outlined: OutlinedRegion) -> list[ir.Node]:
        kept = super().place(flat, outlined)
        if outlined.region.phase is Phase.BACKWARD:
            return kept
        return [*replay_symbolic(flat, outlined), *kept]


class _Opaque:
    """One node for each phase, named without a hash, with static arguments as attributes."""

    def __init__(self, forms: Mapping[Any, Form]) -> None:
        self.identifiers: set[ir.OperatorIdentifier] = set()
        self._forms = forms
        self._bodies: dict[tuple[str, str], list[str]] = {}

    def border(self, region: Region, crossings: dict[int, Crossings], regions: Mapping[int, Region]) -> Border:
        return opaque_border(region, crossings, regions)

    def place(self, flat: FlatModel, outlined: OutlinedRegion) -> list[ir.Node]:
        call, region = outlined.call, outlined.region
        form = self._forms.get(region.function, self._forms[None])
        call.domain = form.domain or domain_of(region.function)
        call.op_type = f"{form.name or region.function.__qualname__}.{region.phase}"
        bodies = self._bodies.setdefault((call.domain, call.op_type), [])
        digest = body_hash(outlined.body)
        if digest not in bodies:
            bodies.append(digest)
        call.overload = "" if bodies[0] == digest else digest
        regions = flat.trace.regions
        forward = regions[region.forward] if region.forward is not None else region
        attributes = static_attributes(forward, argument_names(region.function, len(forward.entered)))
        for attribute in attributes:
            call.attributes.add(attribute)
        _add_function(flat, outlined, [ir.Attr(a.name, a.type, None) for a in attributes])
        self.identifiers.add(call.op_identifier())
        return [call]


def _add_function(flat: FlatModel, outlined: OutlinedRegion, attributes: Any) -> None:
    call, model = outlined.call, flat.model
    function = ir.Function(call.domain, call.op_type, call.overload, graph=outlined.body, attributes=attributes)
    function.meta["region"] = outlined.region
    model.functions.setdefault(function.identifier(), function)
    model.graph.opset_imports[call.domain] = 1


def _parse(form: Any) -> Form:
    kind, separator, rest = str(form).partition(":")
    if not isinstance(form, str) or kind not in FORMS or (separator and kind != "opaque"):
        raise SpecError(f"functions={form!r} is not a form; it is one of {', '.join(FORMS)} or opaque:DOMAIN::NAME.")
    if not separator:
        return Form(kind)
    domain, _, name = rest.rpartition("::")
    if not (domain and name):
        raise SpecError(f"functions={form!r} does not parse; write opaque:com.acme::FastGelu.")
    return Form(kind, domain, name)
