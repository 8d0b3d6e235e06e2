"""Which texts say nearly the same: by their meaning where an embedding model is at hand, else by their letters.

``near_duplicates(texts)`` returns the pairs and says in words by which way they were found. `lekhai curate` shows them
side by side; a person decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

# Small (118 million weights, 470 MB), MIT, for about a hundred languages, English and Bengali among them.
EMBEDDER = "intfloat/multilingual-e5-small"
LEXICAL_ALIKE = 0.27  # eight notes of our vault told in other words: 0.30 and more; two different notes: up to 0.24
MEANING_ALIKE = 0.7  # after the mean is taken away; not measured on notes: look at what it finds, and set your own
_FEW = 10  # texts, below which their mean is mostly the texts themselves: of two alike nothing would remain
_FEW_ALIKE = 0.95  # with the mean left in; the authors of E5 see 0.7 to 1.0 between any two texts
_LETTERS = (4, 5)
_NEAREST = 3  # a text's neighbours that are kept: a thousand pages of one template would make half a million pairs
_FEATURES = 2**18
_BLOCK = 256  # texts compared with all others at a time: memory grows with their number, not with its square
_TOKENS = 512


class EmbedderError(RuntimeError):
    """The embedding model cannot be had; the text says what to do next."""


@dataclass(frozen=True)
class Pair:
    """Two texts by their places in the list, the earlier one first, and their similarity (at most 1)."""

    first: int
    second: int
    similarity: float


@dataclass(frozen=True)
class Duplicates:
    """The pairs that are alike, the most alike first, of each text those with its three nearest.

    `method` says to a reader how they were found: by meaning or by letters.
    """

    method: str
    pairs: list[Pair]

    def nearest(self, place: int) -> tuple[int, float] | None:
        """Return the most similar other text of one text and how similar, None where none is alike."""
        found = next((pair for pair in self.pairs if place in (pair.first, pair.second)), None)
        if found is None:
            return None
        return (found.second if found.first == place else found.first), found.similarity


def near_duplicates(texts: Sequence[str], embedder: str | None = None, alike: float | None = None) -> Duplicates:
    """Return the pairs of texts with a similarity of `alike` or more.

    `embedder` is a folder or a hub id of an embedding model, fetched where it is not on disk. Without one `EMBEDDER`
    is used if all of it is on disk, else letters are compared. Raises EmbedderError where the named one cannot be had.
    """
    if embedder is not None:
        return _by_meaning(embed(texts, embedder), embedder, alike)
    if _on_disk(EMBEDDER) is None:
        return _by_letters(texts, "is not on this machine; --embedder fetches it", alike)
    try:
        return _by_meaning(embed(texts, EMBEDDER, fetch=False), EMBEDDER, alike)
    except EmbedderError:
        return _by_letters(texts, "is on this machine only in part; --embedder fetches the rest", alike)


def _by_letters(texts: Sequence[str], why: str, alike: float | None) -> Duplicates:
    pairs = _alike(_letter_vectors(texts), LEXICAL_ALIKE if alike is None else alike)
    return Duplicates(f"compared by letters, not by meaning ({EMBEDDER} {why})", pairs)


def _by_meaning(vectors: np.ndarray, name: str, alike: float | None) -> Duplicates:
    enough = len(vectors) >= _FEW
    if enough:
        vectors = vectors - vectors.mean(axis=0)  # all texts of one writer point the same way; that part says nothing
    usual = MEANING_ALIKE if enough else _FEW_ALIKE
    pairs = _alike(_unit(vectors), usual if alike is None else alike)
    return Duplicates(f"compared by meaning, with {Path(name).name}", pairs)


def embed(texts: Sequence[str], name: str, fetch: bool = True) -> np.ndarray:
    """Return one vector a text, of length 1: float32, (texts, hidden size); the mean over the tokens' last states.

    A text is cut after 512 tokens. "query: " stands before each, as the E5 models were trained (Wang et al. 2024).
    Without `fetch` only what is on disk is used. Raises EmbedderError where the model cannot be had.
    """
    import numpy as np
    import torch

    tokenizer, model = _load(name, fetch)
    prefix = "query: " if "e5" in Path(name).name.lower() else ""
    found = []
    with torch.inference_mode():
        for start in range(0, len(texts), 16):
            batch = [prefix + text for text in texts[start : start + 16]]
            tokens = tokenizer(batch, padding=True, truncation=True, max_length=_TOKENS, return_tensors="pt")
            states = model(**tokens).last_hidden_state
            mask = tokens["attention_mask"].unsqueeze(-1)
            found.append(((states * mask).sum(dim=1) / mask.sum(dim=1)).float().numpy())
    return _unit(np.concatenate(found)) if found else np.zeros((0, 0), np.float32)


def _load(name: str, fetch: bool) -> tuple[Any, Any]:
    from transformers import AutoModel, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name, local_files_only=not fetch)
        return tokenizer, AutoModel.from_pretrained(name, local_files_only=not fetch).eval()
    except (OSError, ValueError) as error:
        raise EmbedderError(
            f"the embedding model {name} cannot be had ({str(error).splitlines()[0]}): check the name and the network, "
            "give a folder that holds it, or leave --embedder out to compare by letters"
        ) from None


def _on_disk(name: str) -> str | None:
    from huggingface_hub import try_to_load_from_cache

    return name if isinstance(try_to_load_from_cache(name, "config.json"), str) else None


def _letter_vectors(texts: Sequence[str]) -> Any:
    """Return groups of 4 and 5 letters, weighed by their rareness: sparse, (texts, features), rows of length 1."""
    import numpy as np
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

    if not texts:
        return csr_matrix((0, _FEATURES), dtype=np.float32)
    counter = HashingVectorizer(
        analyzer="char_wb",
        ngram_range=_LETTERS,
        n_features=_FEATURES,
        alternate_sign=False,
        norm=None,
        dtype=np.float32,
    )
    return TfidfTransformer(sublinear_tf=True).fit_transform(counter.transform(texts)).astype(np.float32)


def _unit(vectors: np.ndarray) -> np.ndarray:
    import numpy as np

    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _alike(vectors: Any, alike: float) -> list[Pair]:
    found = {(pair.first, pair.second): pair for pair in _pairs(vectors, alike)}
    return sorted(found.values(), key=lambda pair: (-pair.similarity, pair.first, pair.second))


def _pairs(vectors: Any, alike: float) -> Iterator[Pair]:
    """Yield each text with its nearest ones; a pair may come twice, once from either side."""
    import numpy as np

    for start in range(0, vectors.shape[0], _BLOCK):
        block = vectors[start : start + _BLOCK] @ vectors.T
        near = np.asarray(block.toarray() if hasattr(block, "toarray") else block)
        for row, values in enumerate(near, start=start):
            values[row] = -1
            for other in np.argsort(-values, kind="stable")[:_NEAREST]:
                if values[other] >= alike:
                    first, second = sorted((row, int(other)))
                    yield Pair(first, second, min(round(float(values[other]), 6), 1.0))
