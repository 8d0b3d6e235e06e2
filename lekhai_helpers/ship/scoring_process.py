"""How likely a GGUF file finds given tokens: ``python -m lekhai_helpers.ship.scoring_process``, a process of its own.

Started by `ship.scoring.score_gguf` with a JSON object on standard input; prints one JSON object as its last line.
llama.cpp (carried by cyllama) reads the tokens ``STEP`` at a time, so that no more than that many rows of the
dictionary are in memory.
"""

from __future__ import annotations

import json
import sys
from typing import Any

STEP = 32  # positions read at once: 32 rows of 262 000 numbers are 34 MB


def facts(model: Any) -> dict[str, Any]:
    """Return what llama.cpp holds for the start and for the end of a text: ids, and whether a start is added."""
    vocabulary = model.get_vocab()
    count = vocabulary.n_vocab
    return {
        "bos": vocabulary.token_bos(),
        "add_bos": bool(vocabulary.get_add_bos()),
        "ends": [number for number in range(count) if vocabulary.is_eog(number)],
        "tokens": count,
    }


def _with_size(model_class: Any) -> Any:
    """Return the class with the attribute that cyllama's get_logits_ith asks of it, and 0.2.18 gives its vocabulary."""
    if hasattr(model_class, "n_vocab"):
        return model_class
    return type("SizedModel", (model_class,), {"n_vocab": property(lambda model: model.get_vocab().n_vocab)})


class Reader:
    """A loaded file and room for its longest text."""

    def __init__(self, path: str, longest: int, threads: int) -> None:
        from cyllama.llama import llama_cpp

        llama_cpp.disable_logging()
        self.llama_cpp = llama_cpp
        llama_cpp.ggml_backend_load_all()
        self.model = _with_size(llama_cpp.LlamaModel)(path)
        parameters = llama_cpp.LlamaContextParams()
        parameters.n_ctx, parameters.n_batch, parameters.n_ubatch = longest, STEP, STEP
        parameters.n_threads = parameters.n_threads_batch = threads
        self.context = llama_cpp.LlamaContext(self.model, parameters)

    def rows(self, ids: list[int], start: int):
        """Yield, for each token from `start` on, its id and the log-probabilities of all tokens at its place."""
        import numpy as np

        self.context.kv_cache_clear()
        for at in range(0, len(ids) - 1, STEP):
            part = ids[at : min(at + STEP, len(ids) - 1)]
            batch = self.llama_cpp.LlamaBatch(n_tokens=len(part), embd=0, n_seq_max=1)
            for place, token in enumerate(part):
                batch.add(token, at + place, [0], at + place + 1 >= start)
            self.context.decode(batch)
            for place in range(len(part)):
                if at + place + 1 >= start:
                    scores = np.asarray(self.context.get_logits_ith(place), dtype=np.float32)
                    yield ids[at + place + 1], _log_softmax(scores)


def _log_softmax(scores: Any) -> Any:
    import numpy as np

    top = scores.max()
    return scores - (top + np.log(np.exp(scores - top, dtype=np.float64).sum())).astype(np.float32)


def score(asked: dict[str, Any]) -> dict[str, Any]:
    """Read the texts; keep or compare whole rows at every ``every``-th place. See `ship.scoring.score_gguf`."""
    from lekhai_helpers.ship.scoring_rows import Rows

    texts = asked["texts"]
    reader = Reader(asked["model"], max([len(text["ids"]) for text in texts], default=1) + STEP, asked["threads"])
    rows = Rows(asked["every"], asked["keep"], asked["against"])
    found = []
    for text in texts:
        logprobs = []
        for token, row in reader.rows(text["ids"], text["start"]):
            logprobs.append(float(row[token]))
            rows.take(row)
        rows.end_passage()
        found.append(logprobs)
    rows.close()
    compared = {"kl": rows.mean_kl, "same_next": rows.same_next, "divergences": rows.by_passage}
    return {"logprobs": found, "facts": facts(reader.model)} | compared


def main() -> None:
    print(json.dumps(score(json.load(sys.stdin))), flush=True)


if __name__ == "__main__":
    main()
