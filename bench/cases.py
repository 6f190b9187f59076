"""61 autograd Functions from public PyPI packages, and how to call each.

Arguments are written as short strings: `r(4,16)` standard normal, `u(a,b,4,16)` uniform on [a,b), `p(4,16)` positive
(0.1 to 2), all three differentiable; `n(4,16)` standard normal without a gradient; `i(hi,4)` int64 in [0,hi); anything
else is a Python expression. Pins of the packages stand in `bench/requirements.txt`.
"""

# ruff: noqa: E501

from __future__ import annotations

import dataclasses
import functools
import importlib
from collections.abc import Callable
from typing import Any

import torch

__all__ = ["CASES", "Case"]


@dataclasses.dataclass(frozen=True)
class Case:
    """One Function and its arguments.

    Attributes:
        target: `package.module:Class`.
        call: the arguments, as above.
        note: tells two cases of one target apart.
        attr: what of the target is called.
        batch: argument position to the axis that is the batch; None: axis 0 of every tensor as long as the first's.
    """

    target: str
    call: str
    note: str = ""
    attr: str = "apply"
    batch: dict[int, int] | None = None

    @property
    def id(self) -> str:
        """How rows name it."""
        return self.target + (f"[{self.note}]" if self.note else "")

    def function(self) -> Callable[..., Any]:
        """What is called."""
        module, _, name = self.target.partition(":")
        found = functools.reduce(getattr, name.split("."), importlib.import_module(module))
        return getattr(found, self.attr) if self.attr else found

    def arguments(self, seed: int = 0) -> tuple[Any, ...]:
        """Fresh arguments."""
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)

        def n(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64).float()

        def u(low: float, high: float, *shape: int) -> torch.Tensor:
            unit = torch.rand(*shape, generator=generator, dtype=torch.float64)
            return (low + (high - low) * unit).float().requires_grad_()

        names = {
            "n": n,
            "u": u,
            "r": lambda *shape: n(*shape).requires_grad_(),
            "p": lambda *shape: u(0.1, 2.0, *shape),
            "i": lambda high, *shape: torch.randint(0, high, shape, generator=generator),
            "torch": torch,
            "t": torch.tensor,
            "nn": torch.nn,
        }
        return tuple(eval(f"({self.call},)", names))

    def dynamic_shapes(self, args: tuple[Any, ...]) -> tuple[dict[int, str] | None, ...]:
        """The batch of every argument, in torch.export's form."""
        axes = self.batch
        if axes is None:
            size = args[0].shape[0]
            axes = {
                position: 0
                for position, value in enumerate(args)
                if isinstance(value, torch.Tensor) and value.dim() and value.shape[0] == size
            }
        return tuple({axes[position]: "batch"} if position in axes else None for position in range(len(args)))


CASES = [
    Case("entmax.activations:SparsemaxFunction", "r(4,16), -1"),
    Case("entmax.activations:Entmax15Function", "r(4,16), -1"),
    Case("entmax.root_finding:EntmaxBisectFunction", "r(4,16), t(1.5), -1, 30, True"),
    Case("entmax.root_finding:EntmaxBisectFunction", "r(4,16), u(1.1,1.9,4,1), -1, 30, True", note="alpha"),
    Case("entmax.root_finding:SparsemaxBisectFunction", "r(4,16), -1, 30, True"),
    Case("entmax.root_finding:NormmaxBisectFunction", "r(4,16), 2, -1, 30"),
    Case("entmax.root_finding:BudgetBisectFunction", "r(4,16), 2, -1, 30"),
    Case("entmax.losses:SparsemaxLossFunction", "r(4,16), i(16,4), None"),
    Case("entmax.losses:SparsemaxBisectLossFunction", "r(4,16), i(16,4), 30"),
    Case("entmax.losses:Entmax15LossFunction", "r(4,16), i(16,4), None"),
    Case("entmax.losses:EntmaxBisectLossFunction", "r(4,16), i(16,4), 1.3, 30"),
    Case("snntorch.surrogate:StraightThroughEstimator", "r(4,16)"),
    Case("snntorch.surrogate:Triangular", "r(4,16), 1.0"),
    Case("snntorch.surrogate:FastSigmoid", "r(4,16), 25.0"),
    Case("snntorch.surrogate:ATan", "r(4,16), 2.0"),
    Case("snntorch.surrogate:Heaviside", "r(4,16)"),
    Case("snntorch.surrogate:Sigmoid", "r(4,16), 25.0"),
    Case("snntorch.surrogate:SpikeRateEscape", "r(4,16), 1.0, 25.0"),
    Case("snntorch.surrogate:StochasticSpikeOperator", "r(4,16), 0.0, 0.2"),
    Case("snntorch.surrogate:SparseFastSigmoid", "r(4,16), 25.0, 0.5"),
    Case("snntorch.functional.quant:StateQuant", "r(4,16), torch.linspace(-2,2,16)"),
    Case(
        "snntorch.functional.loss:SpikeTime.FirstSpike",
        "(torch.rand(8,2,4)>0.7).float().requires_grad_(), 'cpu'",
        batch={0: 1},
    ),
    Case("norse.torch.functional.threshold:HeaviErfc", "r(4,16), 2.0"),
    Case("norse.torch.functional.threshold:HeaviTanh", "r(4,16), 2.0"),
    Case("norse.torch.functional.threshold:Logistic", "r(4,16), 2.0"),
    Case("norse.torch.functional.threshold:HeaviCirc", "r(4,16), 2.0"),
    Case("norse.torch.functional.threshold:CircDist", "r(4,16), 2.0"),
    Case("norse.torch.functional.threshold:Triangle", "r(4,16), 0.3"),
    Case("norse.torch.functional.superspike:SuperSpike", "r(4,16), t(100.0)"),
    Case("efficientnet_pytorch.utils:SwishImplementation", "r(2,3,8,8)"),
    Case("geffnet.activations.activations_me:SwishJitAutoFn", "r(2,3,8,8)"),
    Case("geffnet.activations.activations_me:MishJitAutoFn", "r(2,3,8,8)"),
    Case("geffnet.activations.activations_me:HardSigmoidJitAutoFn", "r(2,3,8,8)"),
    Case("geffnet.activations.activations_me:HardSwishJitAutoFn", "r(2,3,8,8)"),
    Case("gpytorch.functions._log_normal_cdf:LogNormalCDF", "r(4,16)"),
    Case(
        "gpytorch.functions.rbf_covariance:RBFCovariance",
        "n(5,3), n(6,3), p(1,1), lambda a,b: (a.unsqueeze(-2)-b.unsqueeze(-3)).pow(2).sum(-1)",
        batch={0: 0},
    ),
    Case(
        "gpytorch.functions.matern_covariance:MaternCovariance",
        "n(5,3), n(6,3), p(1,1), 1.5, lambda a,b: (a.unsqueeze(-2)-b.unsqueeze(-3)).pow(2).sum(-1).clamp_min(1e-15).sqrt()",
        batch={0: 0},
    ),
    Case(
        "gpytorch.functions.matern_covariance:MaternCovariance",
        "n(5,3), n(6,3), p(1,1), 2.5, lambda a,b: (a.unsqueeze(-2)-b.unsqueeze(-3)).pow(2).sum(-1).clamp_min(1e-15).sqrt()",
        note="nu=2.5",
        batch={0: 0},
    ),
    Case("gpytorch.variational.large_batch_variational_strategy:QuadFormDiagonal", "r(5,5), r(5,3)", batch={1: 1}),
    Case("pytorch_revgrad.functional:RevGrad", "r(4,16), t(0.5)"),
    Case("kornia.losses.focal:_TargetLogSoftmax", "r(2,5,4,4), i(5,2,1,4,4), torch.ones(2,1,4,4,dtype=torch.bool)"),
    Case("spikingjelly.activation_based.surrogate:piecewise_quadratic", "r(4,16), 1.0"),
    Case("spikingjelly.activation_based.surrogate:piecewise_exp", "r(4,16), 1.0"),
    Case("spikingjelly.activation_based.surrogate:sigmoid", "r(4,16), 4.0"),
    Case("spikingjelly.activation_based.surrogate:soft_sign", "r(4,16), 2.0"),
    Case("spikingjelly.activation_based.surrogate:super_spike", "r(4,16), 2.0"),
    Case("spikingjelly.activation_based.surrogate:atan", "r(4,16), 2.0"),
    Case("spikingjelly.activation_based.surrogate:nonzero_sign_log_abs", "r(4,16), 1.0"),
    Case("spikingjelly.activation_based.surrogate:erf", "r(4,16), 2.0"),
    Case("spikingjelly.activation_based.surrogate:piecewise_leaky_relu", "r(4,16), 1.0, 0.01"),
    Case("spikingjelly.activation_based.surrogate:squarewave_fourier_series", "r(4,16), 2, 8.0"),
    Case("spikingjelly.activation_based.surrogate:s2nn", "r(4,16), 4.0, 1.0"),
    Case("spikingjelly.activation_based.surrogate:q_pseudo_spike", "r(4,16), 2.0"),
    Case("spikingjelly.activation_based.surrogate:leaky_k_relu", "r(4,16), 0.0, 1.0"),
    Case("spikingjelly.activation_based.surrogate:fake_numerical_gradient", "r(4,16), 0.3"),
    Case("spikingjelly.activation_based.surrogate:log_tailed_relu", "r(4,16), 0.0"),
    Case("spikingjelly.activation_based.surrogate:deterministic_pass", "r(4,16)"),
    Case("spikingjelly.activation_based.surrogate:poisson_pass", "u(0.0,1.0,4,16)"),
    Case("spikingjelly.activation_based.surrogate:rect", "r(4,16), 1.0"),
    Case("torchdiffeq._impl.misc:_StitchGradient", "r(4), r(4)"),
    Case(
        "torchdiffeq:odeint_adjoint",
        "(lambda f: f)(type('F',(nn.Module,),{'__init__':lambda s:(nn.Module.__init__(s),setattr(s,'l',nn.Linear(6,6)))[0],'forward':lambda s,t,y: torch.tanh(s.l(y))})()), r(3,6), torch.linspace(0,1,3)",
        attr="",
        note="dopri5",
        batch={1: 0},
    ),
]
