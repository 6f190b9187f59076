"""LSTM, GRU and RNN layers, one or both ways.

The formulas are those of the operators' pages; gates of ONNX are in the order i, o, f, c (LSTM) and z, r, h (GRU).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from gradport.importing.rows.elementwise import elu, hard_sigmoid, leaky_relu, thresholded_relu
from gradport.importing.table import translation

Tensor = torch.Tensor

_ACTIVATIONS: dict[str, Callable[[Tensor, float | None, float | None], Tensor]] = {
    "sigmoid": lambda x, a, b: torch.sigmoid(x),
    "tanh": lambda x, a, b: torch.tanh(x),
    "relu": lambda x, a, b: torch.relu(x),
    "affine": lambda x, a, b: (1.0 if a is None else a) * x + (b or 0.0),
    "leakyrelu": lambda x, a, b: leaky_relu(x, alpha=0.01 if a is None else a),
    "thresholdedrelu": lambda x, a, b: thresholded_relu(x, alpha=1.0 if a is None else a),
    "scaledtanh": lambda x, a, b: (1.0 if a is None else a) * torch.tanh((1.0 if b is None else b) * x),
    "hardsigmoid": lambda x, a, b: hard_sigmoid(x, alpha=0.2 if a is None else a, beta=0.5 if b is None else b),
    "elu": lambda x, a, b: elu(x, alpha=1.0 if a is None else a),
    "softsign": lambda x, a, b: torch.nn.functional.softsign(x),
    "softplus": lambda x, a, b: torch.nn.functional.softplus(x),
}

Activation = Callable[[Tensor], Tensor]


def _activations(
    names: Sequence[str] | None, default: Sequence[str], ways: int, alphas: Sequence[float], betas: Sequence[float]
) -> list[list[Activation]]:
    chosen = [name.lower() for name in (names or list(default) * ways)]
    made: list[Activation] = []
    a, b = list(alphas), list(betas)
    for name in chosen:
        takes_a = name in ("affine", "leakyrelu", "thresholdedrelu", "scaledtanh", "hardsigmoid", "elu")
        takes_b = name in ("affine", "scaledtanh", "hardsigmoid")
        alpha = a.pop(0) if takes_a and a else None
        beta = b.pop(0) if takes_b and b else None
        function = _ACTIVATIONS[name]
        made.append(lambda x, function=function, alpha=alpha, beta=beta: function(x, alpha, beta))  # type: ignore[misc]
    each = len(default)
    return [made[way * each : (way + 1) * each] for way in range(ways)]


def _both_ways(
    x: Tensor,
    lengths: Tensor | None,
    starts: Sequence[Tensor],
    direction: str,
    layout: int,
    step: Callable[[int, Tensor, Sequence[Tensor]], Sequence[Tensor]],
) -> tuple[Tensor, ...]:
    """All hidden states (T, ways, B, H) and the last state of each kind; after a sequence's end its state stays and its
    output is zero."""
    if layout:
        x, starts = x.transpose(0, 1), [start.transpose(0, 1) for start in starts]
    orders = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[direction]
    outputs, lasts = [], []
    for way, backward in enumerate(orders):
        state = [start[way] for start in starts]
        found: list[Tensor] = []
        times = list(range(int(x.shape[0])))
        for time in reversed(times) if backward else times:
            new = step(way, x[time], state)
            if lengths is None:
                state = list(new)
                found.append(state[0])
                continue
            alive = (time < lengths).unsqueeze(1)
            state = [torch.where(alive, one, other) for one, other in zip(new, state, strict=True)]
            found.append(torch.where(alive, new[0], torch.zeros_like(new[0])))
        outputs.append(torch.stack(found[::-1] if backward else found))
        lasts.append(state)
    every = torch.stack(outputs, 1)
    last = [torch.stack(part) for part in zip(*lasts, strict=True)]
    if layout:
        return every.permute(2, 0, 1, 3), *(one.transpose(0, 1) for one in last)
    return every, *last


def _limited(x: Tensor, clip: float | None) -> Tensor:
    return x if clip is None else x.clamp(-clip, clip)


def _start(x: Tensor, given: Tensor | None, ways: int, hidden: int, layout: int) -> Tensor:
    batch = x.shape[0 if layout else 1]
    shape = (batch, ways, hidden) if layout else (ways, batch, hidden)
    return x.new_zeros(shape) if given is None else given


@translation("LSTM")
def lstm(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    lengths: Tensor | None = None,
    h: Tensor | None = None,
    c: Tensor | None = None,
    p: Tensor | None = None,
    /,
    *,
    hidden_size: int,
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    activations: Sequence[str] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    input_forget: int = 0,
    layout: int = 0,
) -> tuple[Tensor, ...]:
    ways = w.shape[0]
    made = _activations(activations, ("Sigmoid", "Tanh", "Tanh"), ways, activation_alpha, activation_beta)
    starts = [_start(x, one, ways, hidden_size, layout) for one in (h, c)]

    def step(way: int, x: Tensor, state: Sequence[Tensor]) -> Sequence[Tensor]:
        before, cells = state
        f, g, out = made[way]
        whole = x @ w[way].t() + before @ r[way].t()
        if b is not None:
            whole = whole + b[way][: 4 * hidden_size] + b[way][4 * hidden_size :]
        let_in, let_out, forget, inner = whole.split(hidden_size, 1)
        peep = [0.0, 0.0, 0.0] if p is None else list(p[way].split(hidden_size))
        let_in = f(_limited(let_in + peep[0] * cells, clip))
        forget = 1 - let_in if input_forget else f(_limited(forget + peep[2] * cells, clip))
        cells = forget * cells + let_in * g(_limited(inner, clip))
        let_out = f(_limited(let_out + peep[1] * cells, clip))
        return let_out * out(cells), cells

    return _both_ways(x, lengths, starts, direction, layout, step)


@translation("GRU")
def gru(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    lengths: Tensor | None = None,
    h: Tensor | None = None,
    /,
    *,
    hidden_size: int,
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    activations: Sequence[str] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    layout: int = 0,
    linear_before_reset: int = 0,
) -> tuple[Tensor, ...]:
    ways = w.shape[0]
    made = _activations(activations, ("Sigmoid", "Tanh"), ways, activation_alpha, activation_beta)
    bias = x.new_zeros(ways, 6 * hidden_size) if b is None else b

    def step(way: int, x: Tensor, state: Sequence[Tensor]) -> Sequence[Tensor]:
        (before,) = state
        f, g = made[way]
        own_bias, hidden_bias = bias[way].split(3 * hidden_size)
        update, reset, new = (x @ w[way].t() + own_bias).split(hidden_size, 1)
        weights, biases = r[way].split(hidden_size), hidden_bias.split(hidden_size)
        update = f(_limited(update + before @ weights[0].t() + biases[0], clip))
        reset = f(_limited(reset + before @ weights[1].t() + biases[1], clip))
        if linear_before_reset:
            new = new + reset * (before @ weights[2].t() + biases[2])
        else:
            new = new + (reset * before) @ weights[2].t() + biases[2]
        return ((1 - update) * g(_limited(new, clip)) + update * before,)

    return _both_ways(x, lengths, [_start(x, h, ways, hidden_size, layout)], direction, layout, step)


@translation("RNN")
def rnn(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    lengths: Tensor | None = None,
    h: Tensor | None = None,
    /,
    *,
    hidden_size: int,
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    activations: Sequence[str] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    layout: int = 0,
) -> tuple[Tensor, ...]:
    ways = w.shape[0]
    made = _activations(activations, ("Tanh",), ways, activation_alpha, activation_beta)

    def step(way: int, x: Tensor, state: Sequence[Tensor]) -> Sequence[Tensor]:
        whole = x @ w[way].t() + state[0] @ r[way].t()
        if b is not None:
            whole = whole + b[way][:hidden_size] + b[way][hidden_size:]
        return (made[way][0](_limited(whole, clip)),)

    return _both_ways(x, lengths, [_start(x, h, ways, hidden_size, layout)], direction, layout, step)
