"""How much each layer counts in the pooled state of a prompt: learned weights, the model frozen. Notebook 11.

``found = fit_layer_weights(values, unsafe)``, then ``found.pool(values)``. Learned on a third of the prompts and
used on the others (`measure.aqi_compare.learn_pooling`), so that it does not mark its own homework.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

STEPS = 200
LEARNING_RATE = 0.05


@dataclass(frozen=True)
class LayerWeights:
    """One weight a layer (all positive, sum 1) and each layer's spread, by which it is divided before the mean."""

    weights: tuple[float, ...]
    spreads: tuple[float, ...]
    loss_before: float
    loss_after: float

    def pool(self, values: np.ndarray) -> np.ndarray:
        """Return the weighted mean over layers: (prompts, layers + 1, hidden) becomes (prompts, hidden)."""
        import numpy as np

        if values.shape[1] != len(self.weights):
            raise ValueError(f"weights of {len(self.weights)} layers cannot pool states of {values.shape[1]}")
        factors = np.asarray(self.weights) / np.asarray(self.spreads)
        return np.einsum("l,nlh->nh", factors, values.astype(np.float64))


def fit_layer_weights(values: np.ndarray, unsafe: np.ndarray, steps: int = STEPS) -> LayerWeights:
    """Learn one weight a layer so that safe and unsafe prompts lie apart. `values`: (prompts, layers + 1, hidden).

    h = sum of alpha(l) h(l), alpha a softmax of one number a layer, as in the paper of the Alignment Quality Index
    (arXiv 2506.13901), which learns it with a contrastive separation loss: pull one side together, push the two apart.
    Ours is the plainest of that kind (`contrastive_loss`); we do not claim that it is the paper's to the letter. Each
    layer is first divided by its spread, for the states of late layers are many times longer and would decide alone.
    It begins with equal weights and is deterministic. Raises ValueError where a layer tells no prompt from another.
    """
    import numpy as np
    import torch

    centred = values.astype(np.float64) - values.mean(axis=0, dtype=np.float64)
    spreads = np.sqrt((centred**2).sum(axis=2).mean(axis=0))
    if not (spreads > 0).all():
        raise ValueError(
            f"layer {int(np.argmin(spreads))} is the same for every prompt: there is nothing to learn from"
        )
    states = torch.tensor(centred / spreads[:, None])
    alike = torch.tensor(unsafe[:, None] == unsafe[None, :])
    scores = torch.zeros(values.shape[1], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([scores], lr=LEARNING_RATE)
    losses = []
    for _ in range(steps):
        loss = contrastive_loss(torch.einsum("l,nlh->nh", scores.softmax(0), states), alike)
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return LayerWeights(tuple(scores.softmax(0).tolist()), tuple(spreads.tolist()), losses[0], losses[-1])


def contrastive_loss(points: Tensor, alike: Tensor) -> Tensor:
    """Return log(mean squared distance of two prompts of one side) - log(the same of two prompts of two sides).

    Below 0 where the sides lie apart; it falls and rises with the Xie-Beni index. A ratio, so that shrinking everything
    is no way to a low loss. `points`: (prompts, hidden); `alike`: (prompts, prompts), true where two are of one side.
    """
    import torch

    square = (points**2).sum(dim=1)
    gaps = square[:, None] + square[None] - 2 * points @ points.T
    partners = alike & ~torch.eye(len(points), dtype=torch.bool)
    return gaps[partners].mean().log() - gaps[~alike].mean().log()
