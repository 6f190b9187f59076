"""What happens with each construct, and how many of them are exported."""

import pytest
from layers import LAYERS
from mistakes import MISTAKES
from operators import OPERATORS
from sizes import SIZES
from spectra import SPECTRA
from types_of_numbers import TYPES

import gradport

CARRIED = [*SIZES, *TYPES, *LAYERS, *SPECTRA, *OPERATORS]


def export(construct):
    subject, args, options = construct.make()
    return (gradport.export_step if "optimizer" in options else gradport.export)(subject, args, **options)


@pytest.mark.parametrize("construct", CARRIED, ids=lambda construct: construct.name)
def test_a_construct_is_exported_or_refused_by_its_name(construct):
    if construct.refused is None:
        assert export(construct).model.graph.outputs
        return
    with pytest.raises(gradport.Error, match=construct.refused) as refusal:
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
