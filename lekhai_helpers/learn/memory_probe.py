"""One training step on the longest row, to see what it really takes before the hours are spent.

``peak_mb = probe(model, tokenizer, ids, settings)``; `learn.memory` estimates the same from shapes alone. Taught in
notebook 06.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from lekhai_helpers.core.hardware import memory_mb
from lekhai_helpers.core.recipe import Settings
from lekhai_helpers.learn.memory_estimate import estimate
from lekhai_helpers.learn.memory_fit import out_of_memory

_MIB = 1024**2 / 1e6  # in MB


def probe(model: Any, tokenizer: Any, ids: Sequence[int], settings: Settings) -> float:
    """Return the measured peak in MB of one training step on `ids`, the longest row, at the batch size.

    Weights included: hold it against ``estimate(...).torch``, and against what was free with `check_probe`. On a card
    it is what torch held at most, on a processor the weights and this process's growth. Trained numbers, random state
    and mode are as before afterwards. Raises DoesNotFit, with one change to make, where the card has too little memory.
    """
    import torch

    batch = torch.tensor([list(ids)] * settings.sft.batch_size, device=model.device)
    with _unharmed(model) as trained, _peak(model, tokenizer) as peak:
        try:
            _one_step(model, batch, trained)
        except torch.OutOfMemoryError:
            expected = estimate(model.config.to_dict(), settings, len(ids))
            raise out_of_memory(expected, _most_mb(batch.device.type, expected.total)) from None
    return peak[0]


def _most_mb(device: str, estimated_mb: float) -> float:
    """Return what this process could hold on its card at most, in MB; elsewhere the estimate, which proved too low."""
    import torch

    if device != "cuda":
        return estimated_mb
    return (torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved()) / 1e6


def _one_step(model: Any, batch: Any, trained: list[Any]) -> None:
    """Forward, backward and the optimiser's step, in the precision the trainer uses."""
    import torch

    on_card = batch.device.type == "cuda"
    half = next(p for p in model.parameters() if not p.requires_grad).dtype
    half = half if half in (torch.float16, torch.bfloat16) else torch.bfloat16
    with torch.autocast(batch.device.type, dtype=half):
        loss = model(input_ids=batch, labels=batch, use_cache=False).loss
    loss.backward()
    if on_card:
        from bitsandbytes.optim import AdamW8bit

        AdamW8bit(trained, lr=0.0).step()
    else:
        torch.optim.AdamW(trained, lr=0.0).step()


@contextmanager
def _unharmed(model: Any) -> Iterator[list[Any]]:
    """Give the trained parameters, and put their values, gradients, the random state and the mode back."""
    import torch

    trained = [p for p in model.parameters() if p.requires_grad]
    kept = [p.detach().clone() for p in trained]
    training = model.training
    model.train()
    try:
        with torch.random.fork_rng():
            yield trained
    finally:
        with torch.no_grad():
            for parameter, value in zip(trained, kept, strict=True):
                parameter.copy_(value)
                parameter.grad = None
        model.train(training)


@contextmanager
def _peak(model: Any, tokenizer: Any) -> Iterator[list[float]]:
    """Give a list that holds the peak in MB once the block is left."""
    import torch

    from lekhai_helpers.learn.model import release_memory, weights_mb

    found: list[float] = []
    release_memory()
    if model.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        yield found
        found.append(torch.cuda.max_memory_allocated() / 1e6)
        return
    with torch.no_grad():  # weights are drawn into memory as they are used: now, so that they do not count twice
        model(input_ids=torch.tensor([[tokenizer.eos_token_id]]), use_cache=False)
    before = memory_mb()
    with _watched() as most:
        yield found
    found.append(weights_mb(model) + max(most[0] - before, 0) * _MIB)


@contextmanager
def _watched(every_seconds: float = 0.002) -> Iterator[list[float]]:
    """Look at this process's memory again and again from a second thread; the list holds the most seen, in MiB."""
    most, done = [memory_mb()], threading.Event()

    def look() -> None:
        while not done.wait(every_seconds):
            most[0] = max(most[0], memory_mb())

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield most
    finally:
        done.set()
        watcher.join()
