"""equivalent and conservative: two that should agree, and forces that should be a gradient."""

import pytest
import torch

import gradport

from ..exporting import functions as fn

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


class PlainSwish(torch.nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(x)


def test_a_kernel_and_its_slow_reference_agree_over_sizes_dtypes_and_edges():
    evidence = gradport.equivalent(fn.Swish, PlainSwish(), gradport.tensor("f32[batch,3]"))
    assert evidence.ok, [f.message for f in evidence.findings]
    assert {f.key for f in evidence.findings} == {"equivalent/output", "equivalent/grad_x"}
    assert {"batch=1", "batch=7", "bfloat16", "x[0] = nan"} <= set(evidence.series["cases"])


def test_a_slope_changed_by_a_thousandth_is_found_in_the_gradient():
    class Changed(fn.Swish):
        @staticmethod
        def backward(ctx, g):
            return fn.Swish.backward(ctx, g) * 1.001

    evidence = gradport.equivalent(fn.Swish, Changed, X)
    assert {f.key: f.outcome for f in evidence.findings} == {
        "equivalent/output": "ok",
        "equivalent/grad_x": "failed",
    }


def test_a_value_that_differs_at_one_edge_alone_is_found():
    def guarded(x):
        return torch.where(x == 0, torch.ones_like(x), x * torch.sigmoid(x))

    evidence = gradport.equivalent(PlainSwish(), guarded, X)
    failed = next(f for f in evidence.findings if f.outcome == "failed")
    assert failed.input in ("x[0] = 0", "x[0] = -0")


def test_one_that_fails_where_the_other_runs_is_found():
    def picky(x):
        if x.shape[0] == 7:
            raise ValueError("seven is too many")
        return x * torch.sigmoid(x)

    evidence = gradport.equivalent(PlainSwish(), picky, gradport.tensor("f32[batch,3]"))
    assert not evidence.ok
    assert any("seven is too many" in f.message for f in evidence.findings)


def test_two_that_take_other_arguments_are_refused():
    with pytest.raises(gradport.Error):
        gradport.equivalent(fn.Swish, fn.Newer, X)


class Springs(torch.nn.Module):
    """Pairwise springs; `swirl` adds a part that is the gradient of nothing."""

    def __init__(self, swirl=0.0):
        super().__init__()
        self.k = torch.nn.Parameter(torch.tensor(1.3))
        self.swirl = swirl

    def forward(self, positions):
        x = positions if positions.requires_grad else positions.detach().requires_grad_()
        with torch.enable_grad():
            distance = (x[:, None] - x[None]).square().sum(-1).add(0.1).sqrt()
            energy = self.k * (distance - 1).square().sum()
            (gradient,) = torch.autograd.grad(energy, x)
        turned = torch.stack([-positions[:, 1], positions[:, 0], 0 * positions[:, 2]], -1)
        return energy, -gradient + self.swirl * turned * gradient.norm() / turned.norm()


def test_a_clean_model_passes():
    evidence = gradport.conservative(Springs(), torch.randn(5, 3, generator=torch.Generator().manual_seed(1)))
    assert evidence.ok, [f.message for f in evidence.findings]


def test_one_percent_of_a_part_that_is_no_gradient_is_found_in_float32():
    evidence = gradport.conservative(Springs(0.01), torch.randn(5, 3, generator=torch.Generator().manual_seed(1)))
    assert {f.outcome for f in evidence.findings} == {"failed"}
    assert evidence.findings[0].figure > 1e-3


def test_a_wrong_sign_is_found_by_the_energy_alone():
    def signed(positions):
        energy, forces = Springs()(positions)
        return {"energy": energy, "forces": -forces}

    outcomes = {f.key: f.outcome for f in gradport.conservative(signed, torch.randn(5, 3)).findings}
    assert outcomes == {"conservative/energy": "failed", "conservative/symmetry": "ok"}


def test_a_model_without_forces_is_refused():
    with pytest.raises(gradport.SpecError, match="energy and forces"):
        gradport.conservative(lambda x: x.sum(), X)
    with pytest.raises(gradport.SpecError, match="no argument has this shape"):
        gradport.conservative(lambda x: (x.sum(), x[0]), X)
