"""The order in which rows are learned: alike lengths side by side, and the same order again after a resume."""

from __future__ import annotations

from collections.abc import Sequence


def by_length(lengths: Sequence[int], group: int, seed: int):
    """Return a sampler of row numbers whose order depends on the seed and the epoch alone.

    Rows of one length side by side waste no padding; `group` is the number of rows of one step of the optimiser, all
    processes together, so that one process and several read the same rows in the same step. The Trainer's own
    sampler draws its order from the global dice: a training that is resumed in the middle of an epoch would read
    other rows than the undisturbed one, some twice and some never.
    """
    import torch
    from torch.utils.data import Sampler
    from transformers.trainer_pt_utils import get_length_grouped_indices

    class ByLength(Sampler):
        epoch = 0

        def set_epoch(self, epoch: int) -> None:
            self.epoch = epoch

        def __len__(self) -> int:
            return len(lengths)

        def __iter__(self):
            dice = torch.Generator().manual_seed(seed + self.epoch)
            return iter(get_length_grouped_indices(list(lengths), group, generator=dice))

    return ByLength()
