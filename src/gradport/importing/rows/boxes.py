"""Boxes of detections."""

from __future__ import annotations

import torch

from gradport.importing.sizes import Sizes
from gradport.importing.table import translation

Tensor = torch.Tensor


@translation("NonMaxSuppression")
def non_max_suppression(
    boxes: Tensor,
    scores: Tensor,
    most: Sizes | None = None,
    overlap: Sizes | None = None,
    least: Sizes | None = None,
    /,
    *,
    center_point_box: int = 0,
) -> Tensor:
    """Rows of batch, class and box: the best box, then the best of those that overlap it little, and so on."""
    limit = 0 if most is None or not most.numbers() else int(most.number())
    threshold = 0.0 if overlap is None or not overlap.numbers() else float(overlap.number())
    lowest = None if least is None or not least.numbers() else float(least.number())
    chosen: list[list[int]] = []
    corners = _corners(boxes, center_point_box).double()
    for batch in range(scores.shape[0]):
        for kind in range(scores.shape[1]):
            order = torch.argsort(scores[batch, kind], descending=True, stable=True).tolist()
            kept: list[int] = []
            for box in order:
                if len(kept) >= limit or (lowest is not None and float(scores[batch, kind, box]) <= lowest):
                    break
                if all(_overlap(corners[batch, box], corners[batch, other]) <= threshold for other in kept):
                    kept.append(box)
            chosen += [[batch, kind, box] for box in kept]
    return torch.tensor(chosen, dtype=torch.int64).reshape(-1, 3)


def _corners(boxes: Tensor, centred: int) -> Tensor:
    """(y1, x1, y2, x2), smaller first."""
    if centred:
        x, y, width, height = boxes.unbind(-1)
        return torch.stack([y - height / 2, x - width / 2, y + height / 2, x + width / 2], -1)
    y1, x1, y2, x2 = boxes.unbind(-1)
    return torch.stack([torch.minimum(y1, y2), torch.minimum(x1, x2), torch.maximum(y1, y2), torch.maximum(x1, x2)], -1)


def _overlap(one: Tensor, other: Tensor) -> float:
    """Intersection over union."""
    low, high = torch.maximum(one[:2], other[:2]), torch.minimum(one[2:], other[2:])
    inside = float((high - low).clamp(min=0).prod())
    areas = float((one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod())
    return inside / (areas - inside) if inside else 0.0
