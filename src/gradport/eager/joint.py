"""A Subject as one function of named tensors: arguments, targets and state in; outputs, loss and gradients out.

The gradients are those that `loss.backward()` leaves in `.grad`: custom backwards and reentrant checkpoints included.
Tracing and the eager reference both run this function, so both compute the same by construction.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch

from gradport.compat.torch.checkpoints import track_recomputations
from gradport.compat.torch.tensors import version_of
from gradport.compat.torch.tracing import has_data
from gradport.eager.activations import Activation, keep_activations, parse_activation, require_activations
from gradport.eager.control_flow import control_flow
from gradport.eager.randomness import Randomness
from gradport.eager.state import State, find_state
from gradport.errors import ExportError, SpecError
from gradport.subject.leaves import replace_leaves
from gradport.subject.ports import Port, Role, Slot
from gradport.subject.signature import Argument, Bound, bind, output_leaves, source_of
from gradport.subject.subject import Subject
from gradport.subject.wrt import Reached, differentiable, resolve_wrt

__all__ = ["CallResults", "Joint", "Slot", "cast", "copies", "every_gradient"]


T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class CallResults:
    """The results of one call.

    Attributes:
        outputs: every tensor of the result by output name, in order.
        loss: the differentiated scalar, or None.
        gradients: the gradient of each wanted slot; None if the backward returns none (zeros if the slot was named
            explicitly).
        seeded: names of the outputs that took a cotangent.
        buffers: every buffer after the call, by name.
        updates: names of the buffers that visibly changed (an eager kernel may write without changing the version).
        activations: the activations requested as outputs, by name.
        random: the standard draws of the call, by name, in order.
        distributions: the distribution of each draw.
        new_state: for a training step, the new value of each state slot.
    """

    outputs: dict[str, torch.Tensor]
    loss: torch.Tensor | None
    gradients: dict[Slot, torch.Tensor | None]
    seeded: tuple[str, ...]
    buffers: dict[str, torch.Tensor]
    updates: tuple[str, ...]
    activations: dict[str, torch.Tensor] = dataclasses.field(default_factory=dict)
    random: dict[str, torch.Tensor] = dataclasses.field(default_factory=dict)
    distributions: dict[str, str] = dataclasses.field(default_factory=dict)
    new_state: dict[Slot, torch.Tensor] = dataclasses.field(default_factory=dict)


class Joint:
    """A Subject as a callable of named tensors.

    Attributes:
        subject: the Subject.
        arguments, targets: the tensor leaves, in graph order.
        statics: the other leaves, which are fixed.
        state: parameters and buffers by name.
        wanted: the slots with requested gradients, in order.
        explicit: the wanted slots that were named explicitly (a missing gradient is zeros).
        moving: the parameters and buffers that a training step updates; empty otherwise.
    """

    moving: frozenset[Slot] = frozenset()

    proof_runs: int = 0
    """Number of consecutive runs in the proof; each starts from the state of the previous run."""

    def __init__(self, subject: Subject) -> None:
        bound = bind(subject)
        self.subject = subject
        self.arguments: tuple[Argument, ...] = bound.arguments
        self.targets: tuple[Argument, ...] = bound.targets
        self.statics: tuple[Argument, ...] = bound.statics
        self.state: State = find_state(subject.target, _callables(bound))
        self._modules = self.state.modules()
        function = isinstance(subject.target, type) and issubclass(subject.target, torch.autograd.Function)
        self._target: Callable[..., Any] = _call_apply(subject.target) if function else subject.target
        reached = Reached(
            subject.name,
            self.arguments,
            self.state.parameters,
            self.examples(),
            lambda name: self.activation(name) is not None,
        )
        self.wanted, self.explicit = resolve_wrt(subject.wrt, reached)
        # user code may read the gradient of an argument whose example requires one, as in torch
        self._marked = {argument.name for argument in self.arguments if _requires_gradient(argument.value)}
        self._example = {
            "args": subject.args,
            "kwargs": subject.kwargs,
            "targets": subject.targets,
        }

    def examples(self) -> dict[Slot, torch.Tensor]:
        """Every slot with its example tensor, in graph order: arguments, targets, parameters, buffers."""
        slots = {Slot(Role.ARGUMENT, argument.name): argument.value for argument in self.arguments}
        slots |= {Slot(Role.TARGET, argument.name): argument.value for argument in self.targets}
        slots |= {Slot(Role.PARAMETER, name): tensor for name, tensor in self.state.parameters.items()}
        slots |= {Slot(Role.BUFFER, name): tensor for name, tensor in self.state.buffers.items()}
        return slots

    def at(self, tensors: Mapping[Slot, torch.Tensor]) -> Joint:
        """The same Joint with these tensors as its example; absent slots keep theirs, `wrt` stays."""
        wanted = [f"param.{slot.name}" if slot.role == Role.PARAMETER else slot.name for slot in self.wanted]
        moved = Joint(self._subject_at(tensors).replace(wrt=wanted or None))
        moved.explicit = self.explicit
        return moved

    def state_slots(self) -> list[Slot]:
        """The slots that are state inputs of the graph, in its order; none of a plain Subject."""
        return [slot for slot in self.examples() if slot in self.moving or slot.role is Role.STATE]

    def for_trace(self) -> Joint:
        """The same function in the form that a trace takes: numbers of its state are tensors. Here the Joint itself."""
        return self

    def _subject_at(self, tensors: Mapping[Slot, torch.Tensor]) -> Subject:
        """The Subject with these tensors as arguments and targets."""
        args, kwargs, targets = self._place(self.examples() | dict(tensors))
        return self.subject.replace(args=args, kwargs=kwargs, targets=targets, inputs=None)

    def __call__(
        self,
        tensors: Mapping[Slot, torch.Tensor],
        cotangent: Callable[[str, torch.Tensor], torch.Tensor],
        random: Callable[[], Randomness] | None = None,
    ) -> CallResults:
        """Runs forward and, if gradients are requested, backward.

        Args:
            tensors: a tensor for every slot; absent slots use their example.
            cotangent: returns the cotangent of an output, given its name and the output.
            random: returns the mode that draws the call's random numbers; None: torch's generator.

        Raises:
            ExportError: no output requires a gradient, or the loss does not.
            SpecError: the loss is not a scalar.
        """
        leaves = {slot: self._leaf(slot, tensor) for slot, tensor in (self.examples() | dict(tensors)).items()}
        held = {slot.name: leaf for slot, leaf in leaves.items() if slot.role in (Role.PARAMETER, Role.BUFFER)}
        versions = {name: version_of(held[name]) for name in self.state.buffers}
        state = dict(held)
        drawn = random() if random is not None else None
        wanted, named = self._activations()
        every = list(dict.fromkeys([*wanted.values(), *named]))
        with (
            torch.enable_grad(),
            control_flow(),
            drawn if drawn is not None else contextlib.nullcontext(),
            track_recomputations(lambda: len(drawn.drawn) if drawn is not None else 0),
            keep_activations(every, self._modules, bool(self.wanted)) as activations,
        ):
            outputs, loss, seeded = self.state.call(
                state, lambda: self._run(leaves, cotangent, lambda: require_activations(every, activations))
            )
        updates = tuple(
            name
            for name, version in versions.items()
            if state[name] is not held[name] or version_of(state[name]) != version
        )
        leaves |= {slot: activations[slot.name] for slot in wanted}
        gradients = {slot: self._gradient(slot, leaves[slot]) for slot in self.wanted}
        return CallResults(
            outputs,
            loss,
            gradients,
            seeded,
            {name: state[name] for name in versions},
            updates,
            {activation.name: activations[activation.name] for activation in named},
            drawn.drawn if drawn is not None else {},
            drawn.distributions if drawn is not None else {},
        )

    def list_outputs(self, results: CallResults) -> dict[Port, torch.Tensor]:
        """The graph outputs of a call, in order: loss, outputs, gradients, new state."""
        outputs = {} if results.loss is None else {Port.own(Role.LOSS, "loss"): results.loss.reshape(())}
        for name, value in self.select_outputs(results).items():
            outputs[Port.own(Role.ACTIVATION if name in results.activations else Role.OUTPUT, name)] = value
        outputs |= {
            Port(Role.GRADIENT, slot): gradient for slot, gradient in results.gradients.items() if gradient is not None
        }
        return outputs | {Port(Role.NEW_STATE, slot): value for slot, value in results.new_state.items()}

    def select_outputs(self, results: CallResults) -> dict[str, torch.Tensor]:
        """The outputs in the graph: those in `outputs`, activations included; by default all without a loss, none with.

        Raises:
            SpecError: `outputs` has a name that is not an output.
        """
        wanted = self.subject.outputs
        if wanted is None:
            return {} if results.loss is not None else dict(results.outputs)
        if wanted == "all":
            return dict(results.outputs)
        known = {**results.outputs, **results.activations}
        for name in _as_list(wanted):
            if name not in known:
                raise SpecError(
                    f"outputs names {name!r}, which is not an output of {self.subject.name}; "
                    f"its outputs are {', '.join(results.outputs)}."
                )
        return {name: known[name] for name in _as_list(wanted)}

    def activation(self, name: str) -> Activation | None:
        """The activation with this name, or None."""
        return parse_activation(name, self._modules)

    def _activations(self) -> tuple[dict[Slot, Activation], list[Activation]]:
        """The activations in `wrt`, by slot, and the activations in `outputs`."""
        by_slot = {slot: self.activation(slot.name) for slot in self.wanted if slot.role == Role.ACTIVATION}
        outputs = [] if self.subject.outputs in (None, "all") else _as_list(self.subject.outputs)
        named = [activation for name in outputs if (activation := self.activation(name)) is not None]
        return {slot: activation for slot, activation in by_slot.items() if activation is not None}, named

    def _gradient(self, slot: Slot, leaf: torch.Tensor) -> torch.Tensor | None:
        if leaf.grad is None and slot in self.explicit:
            return torch.zeros_like(leaf)
        return leaf.grad

    def _leaf(self, slot: Slot, tensor: torch.Tensor) -> torch.Tensor:
        is_new = not has_data(tensor) and tensor.is_leaf and not tensor.requires_grad  # a trace made it for this call
        leaf = tensor if is_new else tensor.detach()
        if slot in self.wanted or (slot.name in self._marked and slot.role == Role.ARGUMENT):
            return leaf.requires_grad_()
        return leaf.clone() if slot.role == Role.BUFFER else leaf

    def _run(
        self,
        leaves: Mapping[Slot, torch.Tensor],
        cotangent: Callable[[str, torch.Tensor], torch.Tensor],
        require_all: Callable[[], None],
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor | None, tuple[str, ...]]:
        # new tensors for each call: the subject may write into its arguments, as into any non-leaf
        inputs = {s: leaf.clone() if s.role in (Role.ARGUMENT, Role.TARGET) else leaf for s, leaf in leaves.items()}
        outputs, loss = self._evaluate(inputs)
        require_all()
        if not self.wanted:
            return outputs, loss, ()
        if loss is not None:
            self._require_scalar(loss)
            self._scale_loss(loss, inputs).backward()
            return outputs, loss, ()
        seeds = {name: value for name, value in outputs.items() if value.requires_grad and differentiable(value)}
        if not seeds:
            raise self._nothing_differentiable("no output requires a gradient")
        torch.autograd.backward(list(seeds.values()), [cotangent(name, value) for name, value in seeds.items()])
        return outputs, None, tuple(seeds)

    def forward(self, tensors: Mapping[Slot, torch.Tensor]) -> tuple[dict[str, torch.Tensor], torch.Tensor | None]:
        """Outputs and loss of one forward call under autograd, on the given tensors without copies.

        Layouts, aliases and autograd graphs of the tensors stay; absent slots use their example.
        """
        placed = self.examples() | dict(tensors)
        with torch.enable_grad(), control_flow():
            return self.with_state(placed, lambda: self._evaluate(placed))

    def with_state(self, tensors: Mapping[Slot, torch.Tensor], body: Callable[[], T]) -> T:
        """Runs `body` with the parameters and buffers among `tensors` in place of the subject's own."""
        state = {slot.name: tensor for slot, tensor in tensors.items() if slot.role in (Role.PARAMETER, Role.BUFFER)}
        result: T = self.state.call(state, body)
        return result

    def _evaluate(self, tensors: Mapping[Slot, torch.Tensor]) -> tuple[dict[str, torch.Tensor], torch.Tensor | None]:
        result, _, loss = self._result(tensors)
        return _name_outputs(result), loss

    def _result(self, tensors: Mapping[Slot, torch.Tensor]) -> tuple[Any, Any, torch.Tensor | None]:
        """The target's result, the loss's targets, and the loss."""
        args, kwargs, targets = self._place(tensors)
        result = self._target(*args, **kwargs)
        return result, targets, self._loss(result, _name_outputs(result), targets)

    def _place(self, leaves: Mapping[Slot, torch.Tensor]) -> tuple[tuple[Any, ...], dict[str, Any], Any]:
        by_path: dict[Any, object] = {}
        for kind, arguments in ((Role.ARGUMENT, self.arguments), (Role.TARGET, self.targets)):
            for argument in arguments:
                path = argument.path if kind == Role.ARGUMENT else ("targets", *argument.path)
                by_path[path] = leaves[Slot(kind, argument.name)]
        structure = replace_leaves(self._example, by_path)
        return structure["args"], structure["kwargs"], structure["targets"]

    def wrap_target(self, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Joint:
        """The same Joint with its target wrapped by `wrap` (such as torch.compile)."""
        twin = copy.copy(self)
        vars(twin)["_target"] = wrap(self._target)
        return twin

    def _scale_loss(self, loss: torch.Tensor, inputs: Mapping[Slot, torch.Tensor]) -> torch.Tensor:
        """The scalar that is differentiated: the loss itself, unless a training scales it."""
        return loss

    def _loss(self, result: Any, outputs: Mapping[str, torch.Tensor], targets: Any) -> torch.Tensor | None:
        loss = self.subject.loss
        if loss is None:
            return None
        if isinstance(loss, str):
            if loss not in outputs:
                raise SpecError(
                    f"loss={loss!r} is not an output of {self.subject.name}; its outputs are {', '.join(outputs)}."
                )
            return outputs[loss]
        value = loss(result, **targets) if isinstance(targets, Mapping) else loss(result, *targets)
        if not isinstance(value, torch.Tensor):
            raise SpecError(f"The loss of {self.subject.name} returned {type(value).__name__}, not a tensor.")
        return value

    def _require_scalar(self, loss: torch.Tensor) -> None:
        if loss.numel() != 1:
            raise SpecError(
                f"The loss of {self.subject.name} has shape {tuple(loss.shape)}; it must be a scalar (reduce it, "
                "or leave `loss` out and give cotangents)."
            )
        if not loss.requires_grad:
            raise self._nothing_differentiable("the loss requires no gradient")

    def _nothing_differentiable(self, why: str) -> ExportError:
        file, line = source_of(self.subject.target)
        return ExportError(
            f"{self.subject.name} ({file}:{line}) has no gradient with respect to "
            f"{', '.join(slot.name for slot in self.wanted)}: {why}. Choose another `wrt`, or export only the forward."
        )


def every_gradient(subject: Subject) -> str:
    """The `wrt` of every available gradient: "inputs", "parameters", or "all" if there are both."""
    joint = Joint(subject.replace(wrt=None))
    floating = any(differentiable(argument.value) for argument in joint.arguments)
    trained = any(tensor.requires_grad for tensor in joint.state.parameters.values())
    return "all" if floating and trained else "parameters" if trained else "inputs"


def copies(tensors: Mapping[Slot, torch.Tensor]) -> dict[Slot, torch.Tensor]:
    """Copies that share no memory with the originals."""
    return {slot: tensor.detach().clone() for slot, tensor in tensors.items()}


def cast(tensors: Mapping[Slot, torch.Tensor], dtype: torch.dtype) -> dict[Slot, torch.Tensor]:
    """Casts floating-point tensors to another dtype, complex tensors to its complex dtype; others stay."""

    def one(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.is_complex():
            return tensor.to(dtype.to_complex())
        return tensor.to(dtype) if tensor.is_floating_point() else tensor

    return {slot: one(tensor) for slot, tensor in tensors.items()}


def _requires_gradient(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.requires_grad


def _call_apply(function: Any) -> Callable[..., Any]:
    """Calls a Function's `apply`, looked up at every call as in user code."""
    return lambda *args, **kwargs: function.apply(*args, **kwargs)


def _name_outputs(result: Any) -> dict[str, torch.Tensor]:
    outputs: dict[str, torch.Tensor] = {}
    for name, value in output_leaves(result):
        if name in outputs:
            raise ExportError(f"Two outputs have the name {name!r}; give their containers distinct keys.")
        outputs[name] = value
    return outputs


def _callables(bound: Bound) -> dict[str, Any]:
    return {static.name: static.value for static in bound.statics if callable(static.value)}


def _as_list(names: Any) -> list[str]:
    return [names] if isinstance(names, str) else list(names)
