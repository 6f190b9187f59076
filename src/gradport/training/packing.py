"""Which frozen weights of a training are packed, and the float32 weights that torch has beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch

from gradport.eager.joint import Joint, Slot
from gradport.errors import SpecError
from gradport.lowering.passes.packed_weights import Packed, PackedForm, pack
from gradport.subject.ports import Role

__all__ = ["pack_frozen", "parse_frozen", "require_opset", "use_unpacked"]

_OPSET = 21
"""The first opset whose DequantizeLinear takes blocks."""


def parse_frozen(frozen: str | None) -> PackedForm | None:
    """`frozen=` of `export_training`.

    Raises:
        SpecError: it is not a form.
    """
    if frozen is None:
        return None
    if frozen not in tuple(PackedForm):
        raise SpecError(f"frozen={frozen!r} is not a form; it is None, {', '.join(map(repr, map(str, PackedForm)))}.")
    return PackedForm(frozen)


def require_opset(form: PackedForm | None, opset_version: int | None, default: int) -> int | None:
    """The opset for a form: int8 and int4 raise the default to 21.

    Raises:
        SpecError: a lower opset was given.
    """
    if form in (None, PackedForm.FLOAT16):
        return opset_version
    if opset_version is not None and opset_version < _OPSET:
        raise SpecError(
            f"frozen={str(form)!r} needs opset {_OPSET} or later, for block-wise DequantizeLinear; "
            f"opset_version is {opset_version}."
        )
    return max(default, _OPSET) if opset_version is None else opset_version


def pack_frozen(joint: Joint, form: PackedForm | None) -> dict[str, Packed]:
    """The weights of Linear and Embedding modules that do not train, packed, by parameter name.

    Raises:
        SpecError: there is a form and no such weight.
    """
    if form is None:
        return {}
    names = {id(tensor): name for name, tensor in joint.state.parameters.items()}
    packed = {}
    for module in joint.state.modules().values():
        if not isinstance(module, (torch.nn.Linear, torch.nn.Embedding)):
            continue
        name = names.get(id(module.weight))
        frozen = name is not None and Slot(Role.PARAMETER, name) not in joint.moving
        if name is not None and frozen and module.weight.dtype is torch.float32 and name not in packed:
            packed[name] = pack(module.weight, form)
    if not packed:
        raise SpecError(
            f"frozen={str(form)!r}: {joint.subject.name} has no Linear or Embedding weight in float32 that does not "
            "train; leave parameters out of the optimizer, or leave frozen out."
        )
    return packed


def use_unpacked(joints: Iterable[Joint], packed: Mapping[str, Packed]) -> None:
    """Makes the Joints use the weights that the packed ones stand for; the user's module stays as it is."""
    for joint in joints:
        joint.state.parameters.update({name: one.weight for name, one in packed.items()})
