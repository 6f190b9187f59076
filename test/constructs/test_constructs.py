"""What happens with each construct, and how many of them are exported."""

import onnx_ir as ir
import onnxruntime
import pytest
import torch

import gradport

from .layers import LAYERS
from .listing import NOT_WITH
from .mistakes import MISTAKES
from .operators import OPERATORS
from .sizes import SIZES
from .spectra import SPECTRA
from .types_of_numbers import TYPES

pytestmark = pytest.mark.corpus

CARRIED = [*SIZES, *TYPES, *LAYERS, *SPECTRA, *OPERATORS]


def export(construct):
    subject, args, options = construct.make()
    return (gradport.export_step if "optimizer" in options else gradport.export)(subject, args, **options)


@pytest.mark.parametrize("construct", CARRIED, ids=lambda construct: construct.name)
def test_a_construct_is_exported_or_refused_by_its_name(construct, capfd):
    """What is exported loads in a stock session of ONNX Runtime, and nobody says anything."""
    version = tuple(map(int, torch.__version__.split(".")[:2]))
    refused = "" if construct.name in NOT_WITH.get(version, ()) else construct.refused
    if refused is None:
        program = export(construct)
        stock = onnxruntime.InferenceSession(ir.to_proto(program.model).SerializeToString())
        if all(isinstance(size, int) for spec in program.inputs for size in spec.shape):
            stock.run(None, {spec.name: torch.zeros(spec.shape, dtype=spec.dtype).numpy() for spec in program.inputs})
        assert capfd.readouterr() == ("", "")
        return
    with pytest.raises(gradport.Error, match=refused) as refusal:
        export(construct)
    assert str(refusal.value).endswith(".")


@pytest.mark.parametrize("construct", MISTAKES, ids=lambda construct: construct.name)
def test_a_mistake_is_refused_in_a_sentence(construct):
    with pytest.raises(gradport.Error, match=construct.refused) as refusal:
        export(construct)
    assert str(refusal.value).endswith(".")


def test_nine_in_ten_are_exported():
    exported = [construct for construct in CARRIED if construct.refused is None]
    assert len(exported) >= 0.9 * len(CARRIED)
