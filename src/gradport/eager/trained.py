"""A Subject under an optimizer: the forward and backward of a training step, and its state."""

from __future__ import annotations

import torch

from gradport.compat.torch.functions import function_calls
from gradport.eager.joint import Joint, Slot, copies
from gradport.eager.optimizers import require_exportable_optimizer
from gradport.eager.randomness import Expected
from gradport.eager.references import ReferenceHooks
from gradport.eager.run import rejection
from gradport.errors import Error, SpecError
from gradport.subject.ports import Role
from gradport.subject.subject import Subject

__all__ = ["Trained"]


class Trained(Joint):
    """A Joint that differentiates by the parameters of an optimizer.

    Args:
        subject: has a loss; its `wrt` is ignored.
        optimizer: a torch optimizer on the subject's parameters.

    Attributes:
        optimizer: the optimizer.
        trained: the parameters that move, by name.

    Raises:
        SpecError: there is no loss, or the optimizer cannot be exported or has other parameters.
    """

    def __init__(self, subject: Subject, optimizer: torch.optim.Optimizer) -> None:
        if subject.loss is None:
            raise SpecError(f"A training step of {subject.name} needs a loss.")
        require_exportable_optimizer(optimizer)
        wanted = _trained_parameters(subject, optimizer)
        super().__init__(subject.replace(wrt=[f"param.{name}" for name in wanted]))
        self.explicit = frozenset()
        self.optimizer = optimizer
        self.moving = self._find_moving()
        self.trained = {name: tensor for name, tensor in wanted.items() if Slot(Role.PARAMETER, name) in self.moving}

    def _find_moving(self) -> frozenset[Slot]:
        """Finds the parameters with a gradient and the buffers that the forward changes, by one eager call.

        Random numbers are replaced by their means, so that no generator advances.

        Raises:
            TargetError: the module, or its loss, fails.
        """
        tensors = Joint.examples(self)
        try:
            with function_calls(ReferenceHooks(always=False)):
                results = Joint.__call__(self, copies(tensors), lambda name, value: torch.ones_like(value), Expected)
        except Error:
            raise
        except Exception as error:
            raise rejection(self, tensors, error) from error
        moving = {slot for slot, gradient in results.gradients.items() if gradient is not None}
        changed = [n for n, new in results.buffers.items() if not torch.equal(new, self.state.buffers[n])]
        return frozenset(moving | {Slot(Role.BUFFER, name) for name in {*results.updates, *changed}})


def _trained_parameters(subject: Subject, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The parameters of the optimizer that require a gradient, by their names in the Subject."""
    joint = Joint(subject.replace(wrt=None))
    names = {id(tensor): name for name, tensor in joint.state.parameters.items()}
    own = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    strangers = [parameter for parameter in own if id(parameter) not in names]
    if strangers:
        raise SpecError(
            f"{len(strangers)} of the optimizer's {len(own)} parameters are not parameters of {subject.name}; "
            "build the optimizer on the parameters of the exported module."
        )
    trained = {names[id(parameter)]: parameter for parameter in own if parameter.requires_grad}
    if not trained:
        raise SpecError("No parameter of the optimizer requires a gradient.")
    return trained
