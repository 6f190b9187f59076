"""Labels among the arguments of a forward: it needs them for its loss only, as a model of Hugging Face does.

https://huggingface.co/docs/transformers/main_classes/output
"""

from __future__ import annotations

import torch

from gradport.eager.halves import Predict
from gradport.eager.run import run_eager
from gradport.eager.trained import Trained
from gradport.errors import Error

__all__ = ["predict_without_labels"]


def predict_without_labels(gradients: Trained) -> Predict:
    """The prediction of a training, called without labels.

    A label is a keyword argument without which the forward gives fewer scalars, and otherwise the same outputs.

    Raises:
        TargetError: the forward rejects its own example.
    """
    predict = Predict(gradients)
    outputs = _outputs(predict)
    labels = []
    for name in gradients.subject.kwargs:
        try:
            fewer = _outputs(Predict(gradients, frozenset({name})))
        except Error:
            continue  # the forward needs this argument
        if _lacks_scalars_only(fewer, outputs):
            labels.append(name)
    return Predict(gradients, frozenset(labels)) if labels else predict


def _outputs(predict: Predict) -> dict[str, torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return dict(run_eager(predict, predict.examples(), lambda name, output: torch.ones_like(output)).outputs)


def _lacks_scalars_only(fewer: dict[str, torch.Tensor], outputs: dict[str, torch.Tensor]) -> bool:
    missing = [tensor for name, tensor in outputs.items() if name not in fewer]
    same = all(name in outputs and torch.equal(tensor, outputs[name]) for name, tensor in fewer.items())
    return bool(missing) and bool(fewer) and same and all(tensor.dim() == 0 for tensor in missing)
