"""Recurrences over a sequence of any length: one Scan forward and one backward.

A step of the forward returns the next state and the values that the backward reads. Whatever does not depend on the
previous step is computed over the whole sequence: the hidden states after the Scan of the forward, slopes before the
Scan of the backward, and the gradient of the weight after it.

Shapes: T steps, B sequences, H the hidden size.

Sources: S. Hochreiter, J. Schmidhuber, "Long Short-Term Memory", 1997; K. Cho et al., "Learning Phrase Representations
using RNN Encoder-Decoder", 2014; https://docs.pytorch.org/docs/stable/generated/torch.nn.GRU.html.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from gradport.compat.torch.operators import aten as _aten
from gradport.operators.table import OwnBackward

__all__ = ["GRU", "LSTM", "RNN"]

Tensors = tuple[torch.Tensor, ...]


def _scan(
    step: Callable[..., Sequence[torch.Tensor]],
    state: Tensors,
    rows: Tensors,
    fixed: Tensors,
    *,
    reverse: bool,
) -> Tensors:
    """Scans `step(*state, *row of each, *fixed) -> (*state, *row)`; returns the last state and all rows."""
    read = tuple(row.flip(0) for row in rows) if reverse else rows
    results: Tensors = tuple(torch.ops.higher_order.scan(lambda *each: list(step(*each)), state, read, fixed))
    last, written = results[: len(state)], results[len(state) :]
    return last + (tuple(row.flip(0) for row in written) if reverse else written)


def _states(
    step: Callable[..., Sequence[torch.Tensor]],
    state: Tensors,
    rows: Tensors,
    fixed: Tensors,
    *,
    reverse: bool,
) -> Tensors:
    """The hidden states, and the last state except the hidden one: a forward whose backward nobody asks for."""

    def keep(*each: torch.Tensor) -> Tensors:
        after = tuple(step(*each)[: len(state)])
        return *after, after[0].clone()

    results = _scan(keep, state, rows, fixed, reverse=reverse)
    return results[-1], *results[1:-1]


def _unroll(
    step: Callable[..., Sequence[torch.Tensor]],
    state: Tensors,
    rows: Tensors,
    fixed: Tensors,
    *,
    reverse: bool,
) -> Tensors:
    """As `_states`, step by step at a fixed length: torch differentiates a scan only once."""
    steps = list(zip(*(row.unbind(0) for row in rows), strict=True))
    hidden = []
    for each in reversed(steps) if reverse else steps:
        state = tuple(step(*state, *each, *fixed)[: len(state)])
        hidden.append(state[0])
    return torch.stack(hidden[::-1] if reverse else hidden), *state[1:]


def _before(first: torch.Tensor, states: torch.Tensor, *, reverse: bool) -> torch.Tensor:
    """The state before each step, (T, B, H)."""
    return torch.cat([states[1:], first.unsqueeze(0)] if reverse else [first.unsqueeze(0), states[:-1]])


def _weight_gradient(gates: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """The gradient of the hidden weight: one product over all steps."""
    return gates.flatten(0, 1).t() @ hidden.flatten(0, 1)


def _differentiable(function: Callable[..., Tensors], inputs: Tensors, cotangents: Tensors) -> Tensors:
    """The gradients with a graph of their own, for a second derivative: the saved tensors have none."""
    results = function(*inputs)
    wanted = [tensor for tensor in inputs if tensor.requires_grad]
    gradients = iter(torch.autograd.grad(results, wanted, cotangents, create_graph=True))
    return tuple(next(gradients) if tensor.requires_grad else torch.zeros_like(tensor) for tensor in inputs)


def _lstm_step(h: torch.Tensor, c: torch.Tensor, gates: torch.Tensor, turned: torch.Tensor) -> Tensors:
    size = turned.shape[0]
    three, inner = torch.addmm(gates, h, turned).split([3 * size, size], 1)
    sigmoids, inner = torch.sigmoid(three), torch.tanh(inner)
    let_in, forget, let_out = sigmoids.split([size] * 3, 1)
    kept = forget * c
    c = kept + let_in * inner
    squashed = torch.tanh(c)
    h = let_out * squashed
    return h, c, kept, sigmoids, inner.clone(), squashed


def _lstm_step_back(
    dh: torch.Tensor,
    dc: torch.Tensor,
    dy: torch.Tensor,
    to_cell: torch.Tensor,
    keep: torch.Tensor,
    to_gates: torch.Tensor,
    weight: torch.Tensor,
) -> Tensors:
    dh = dy + dh
    dc = dh * to_cell + dc
    gates = torch.cat([dc, dc, dh, dc], 1) * to_gates
    return gates @ weight, dc * keep, gates.clone()


class LSTM(OwnBackward):
    """All hidden states, (T, B, H), and the last cells, (B, H).

    Inputs: whether the last row comes first; the input's part of the gates, (T, B, 4H), in the order input, forget,
    output, cell; the hidden weight, (4H, H); the first hidden state and cells, (B, H).
    """

    @staticmethod
    def forward(
        ctx: Any, reverse: bool, gates: torch.Tensor, weight: torch.Tensor, h: torch.Tensor, c: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One Scan; its rows are the parts that the backward reads, if somebody asks for it."""
        state, fixed = (h, c), (weight.t(),)
        if not any(ctx.needs_input_grad):
            hidden, last = _states(_lstm_step, state, (gates,), fixed, reverse=reverse)
            return hidden, last
        _, last, kept, sigmoids, inner, squashed = _scan(_lstm_step, state, (gates,), fixed, reverse=reverse)
        hidden = sigmoids[:, :, 2 * weight.shape[1] :] * squashed
        ctx.reverse = reverse
        ctx.save_for_backward(gates, weight, h, c, hidden, kept, sigmoids, inner, squashed)
        return hidden, last

    @staticmethod
    def backward(  # type: ignore[override]
        ctx: Any, dy: torch.Tensor, dc: torch.Tensor
    ) -> tuple[torch.Tensor | None, ...]:
        """One Scan in the other direction: c' = f c + i g, h' = o tanh(c')."""
        gates, weight, h, c, hidden, kept, sigmoids, inner, squashed = ctx.saved_tensors
        if torch.is_grad_enabled():

            def results(gates: torch.Tensor, weight: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> Tensors:
                return _unroll(_lstm_step, (h, c), (gates,), (weight.t(),), reverse=ctx.reverse)

            return None, *_differentiable(results, (gates, weight, h, c), (dy, dc))
        size = weight.shape[1]
        let_in, forget, let_out = sigmoids.split([size] * 3, 2)
        rest_in, rest_forget, rest_out = (1 - sigmoids).split([size] * 3, 2)
        rows = (
            dy,
            let_out * (1 - squashed * squashed),
            forget,
            torch.cat(
                [inner * let_in * rest_in, kept * rest_forget, hidden * rest_out, let_in * (1 - inner * inner)], 2
            ),
        )
        dh, dc, gates = _scan(_lstm_step_back, (torch.zeros_like(h), dc), rows, (weight,), reverse=not ctx.reverse)
        return None, gates, _weight_gradient(gates, _before(h, hidden, reverse=ctx.reverse)), dh, dc


def _gru_step(
    h: torch.Tensor, gates: torch.Tensor, new: torch.Tensor, turned: torch.Tensor, bias: torch.Tensor
) -> Tensors:
    size = turned.shape[0]
    by_hidden, new_by_hidden = torch.addmm(bias, h, turned).split([2 * size, size], 1)
    sigmoids = torch.sigmoid(gates + by_hidden)
    reset, update = sigmoids.split([size] * 2, 1)
    new = torch.tanh(new + reset * new_by_hidden)
    away = h - new
    return new + update * away, sigmoids, new, away, new_by_hidden.clone()


def _gru_step_back(
    dh: torch.Tensor, dy: torch.Tensor, keep: torch.Tensor, to_gates: torch.Tensor, weight: torch.Tensor
) -> Tensors:
    dh = dy + dh
    gates = torch.cat([dh, dh, dh], 1) * to_gates
    return gates @ weight + dh * keep, gates, dh


class GRU(OwnBackward):
    """All hidden states, (T, B, H).

    Inputs: whether the last row comes first; the input's part of the gates reset and update, (T, B, 2H), and of the new
    state, (T, B, H); the hidden weight, (3H, H), and its bias, (3H); the first hidden state, (B, H).
    """

    @staticmethod
    def forward(
        ctx: Any,
        reverse: bool,
        gates: torch.Tensor,
        new: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        h: torch.Tensor,
    ) -> torch.Tensor:
        """One Scan; its rows are the parts that the backward reads, if somebody asks for it."""
        rows, fixed = (gates, new), (weight.t(), bias)
        if not any(ctx.needs_input_grad):
            return _states(_gru_step, (h,), rows, fixed, reverse=reverse)[0]
        _, sigmoids, activation, away, new_by_hidden = _scan(_gru_step, (h,), rows, fixed, reverse=reverse)
        hidden = activation + sigmoids[:, :, weight.shape[1] :] * away
        ctx.reverse = reverse
        ctx.save_for_backward(gates, new, weight, bias, h, hidden, sigmoids, activation, away, new_by_hidden)
        return hidden

    @staticmethod
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        """One Scan in the other direction: h' = n + z (h - n), n = tanh(x + r (W h + b))."""
        gates, new, weight, bias, h, hidden, sigmoids, activation, away, new_by_hidden = ctx.saved_tensors
        if torch.is_grad_enabled():

            def results(
                gates: torch.Tensor, new: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, h: torch.Tensor
            ) -> Tensors:
                return _unroll(_gru_step, (h,), (gates, new), (weight.t(), bias), reverse=ctx.reverse)

            return None, *_differentiable(results, (gates, new, weight, bias, h), (dy,))
        size = weight.shape[1]
        reset, update = sigmoids.split([size] * 2, 2)
        slope_reset, slope_update = (sigmoids * (1 - sigmoids)).split([size] * 2, 2)
        to_new = (1 - update) * (1 - activation * activation)
        to_gates = torch.cat([to_new * new_by_hidden * slope_reset, away * slope_update, to_new * reset], 2)
        start, rows = (torch.zeros_like(h),), (dy, update, to_gates)
        dh, by_hidden, dhidden = _scan(_gru_step_back, start, rows, (weight,), reverse=not ctx.reverse)
        dnew = dhidden * to_new
        dgates, dbias = by_hidden[:, :, : 2 * size], by_hidden.sum((0, 1))
        dweight = _weight_gradient(by_hidden, _before(h, hidden, reverse=ctx.reverse))
        return None, dgates, dnew, dweight, dbias, dh


def _tanh_step(h: torch.Tensor, gates: torch.Tensor, turned: torch.Tensor) -> Tensors:
    h = torch.tanh(torch.addmm(gates, h, turned))
    return h, h.clone()


def _relu_step(h: torch.Tensor, gates: torch.Tensor, turned: torch.Tensor) -> Tensors:
    h = torch.relu(torch.addmm(gates, h, turned))
    return h, h.clone()


def _tanh_step_back(dh: torch.Tensor, dy: torch.Tensor, slope: torch.Tensor, weight: torch.Tensor) -> Tensors:
    gates = (dy + dh) * slope
    return gates @ weight, gates.clone()


def _relu_step_back(dh: torch.Tensor, dy: torch.Tensor, hidden: torch.Tensor, weight: torch.Tensor) -> Tensors:
    gates = _aten.threshold_backward.default(dy + dh, hidden, 0)
    return gates @ weight, gates.clone()


class RNN(OwnBackward):
    """All hidden states, (T, B, H).

    Inputs: whether the nonlinearity is relu, otherwise tanh; whether the last row comes first; the input's part of the
    sum, (T, B, H); the hidden weight, (H, H); the first hidden state, (B, H).
    """

    @staticmethod
    def forward(
        ctx: Any, relu: bool, reverse: bool, gates: torch.Tensor, weight: torch.Tensor, h: torch.Tensor
    ) -> torch.Tensor:
        """One Scan, whose rows are the hidden states."""
        hidden = _scan(_relu_step if relu else _tanh_step, (h,), (gates,), (weight.t(),), reverse=reverse)[1]
        ctx.relu, ctx.reverse = relu, reverse
        ctx.save_for_backward(gates, weight, h, hidden)
        return hidden

    @staticmethod
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        """One Scan in the other direction."""
        gates, weight, h, hidden = ctx.saved_tensors
        if torch.is_grad_enabled():

            def results(gates: torch.Tensor, weight: torch.Tensor, h: torch.Tensor) -> Tensors:
                step = _relu_step if ctx.relu else _tanh_step
                return _unroll(step, (h,), (gates,), (weight.t(),), reverse=ctx.reverse)

            return None, None, *_differentiable(results, (gates, weight, h), (dy,))
        step, slope = (_relu_step_back, hidden) if ctx.relu else (_tanh_step_back, 1 - hidden * hidden)
        dh, gates = _scan(step, (torch.zeros_like(h),), (dy, slope), (weight,), reverse=not ctx.reverse)
        return None, None, gates, _weight_gradient(gates, _before(h, hidden, reverse=ctx.reverse)), dh
