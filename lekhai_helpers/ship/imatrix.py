"""The importance matrix: which columns of which weights carry much, measured on the text the model is made for.

``collect_imatrix(folder, examples, target)`` runs the Hugging Face model over training examples and writes, for every
linear layer, the mean squared value of each of its inputs; ``quantize(..., imatrix=target)`` then rounds those columns
most carefully that are multiplied by large numbers. The same quantity as llama.cpp's own tool collects
(tools/imatrix/imatrix.cpp), in the same file format, so that its llama-quantize reads the file as well. Taught in
notebook 12, switched on by ``export.imatrix``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lekhai_helpers.ship.atomic import new_file
from lekhai_helpers.ship.errors import QuantizeError

_SUMS, _COUNTS = ".in_sum2", ".counts"


def collect_imatrix(folder: Path, examples: Sequence[Mapping[str, Any]], target: Path, limit: int = 64) -> Path:
    """Measure the inputs of every linear layer of the model in `folder` and write them to `target`. Returns it.

    `examples` are rows of the dataset, {"prompt": [...], "completion": [...]}: the first `limit` are read, in the
    form the model was trained in. Use training rows only, or the held-out figures are no longer held out.
    Raises QuantizeError where there is nothing to read, or where a layer has no name in a GGUF file.
    """
    from lekhai_helpers.learn.model import load_plain

    model, tokenizer = load_plain(folder)
    texts = [
        tokenizer.apply_chat_template([*row["prompt"], *row["completion"]], tokenize=False) for row in examples[:limit]
    ]
    if not texts:
        raise QuantizeError("an importance matrix needs text to measure on, and there is none: run notebook 03 first")
    sums, seen = column_sums(model, tokenizer, texts)
    names = gguf_names(model, sums)
    return write_imatrix({names[name]: values for name, values in sums.items()}, seen, len(texts), target)


def column_sums(model, tokenizer, texts: Sequence[str]) -> tuple[dict[str, Any], int]:
    """Return, for every linear layer but the last, the sum over all tokens of each squared input; and the tokens.

    Keys are the layers' names in the model, values numpy arrays of as many numbers as the layer has inputs.
    """
    import torch

    sums: dict[str, torch.Tensor] = {}

    def note(name: str):
        def hook(_, inputs) -> None:
            squared = inputs[0].detach().float().flatten(0, -2).square().sum(0, dtype=torch.float64)
            sums[name] = sums[name] + squared if name in sums else squared

        return hook

    layers = [(name, part) for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)]
    hooks = [part.register_forward_pre_hook(note(name)) for name, part in layers if name != "lm_head"]
    seen = 0
    model.eval()
    try:
        for text in texts:
            ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids.to(model.device)
            with torch.inference_mode():
                model(input_ids=ids, logits_to_keep=1)
            seen += ids.shape[1]
    finally:
        for hook in hooks:
            hook.remove()
    return {name: values.cpu().numpy() for name, values in sums.items()}, seen


def gguf_names(model, names: Sequence[str] | Mapping[str, Any]) -> dict[str, str]:
    """Return the name each layer's weight has in a GGUF file, from llama.cpp's own table.

    Raises QuantizeError for a layer the table does not know: its weight would be rounded blindly.
    """
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    kind = str(model.config.model_type).removesuffix("_text")
    arch = next((number for number, name in MODEL_ARCH_NAMES.items() if name == kind), None)
    if arch is None:
        raise QuantizeError(f"no importance matrix for {kind}: the gguf package knows no architecture of that name")
    table = get_tensor_name_map(arch, model.config.num_hidden_layers)
    found = {name: table.get_name(f"{name}.weight", try_suffixes=(".weight",)) for name in names}
    unknown = [name for name, known in found.items() if known is None]
    if unknown:
        raise QuantizeError(f"no importance matrix for {kind}: {unknown[0]} has no name in a GGUF file")
    return {name: str(known) for name, known in found.items()}


def write_imatrix(sums: Mapping[str, Any], tokens: int, texts: int, target: Path) -> Path:
    """Write sums of squares, a row for each tensor, in llama.cpp's format. Returns `target`."""
    import numpy as np
    from gguf import GGUFWriter

    with new_file(target) as beside:
        writer = GGUFWriter(beside, "imatrix")
        writer.add_type("imatrix")
        writer.add_array("imatrix.datasets", ["training rows"])
        writer.add_uint32("imatrix.chunk_count", texts)
        writer.add_uint32("imatrix.chunk_size", max(1, tokens // max(1, texts)))
        for name, values in sorted(sums.items()):
            writer.add_tensor(name + _SUMS, np.asarray(values, dtype=np.float32)[None, :])
            writer.add_tensor(name + _COUNTS, np.full((1, 1), tokens, dtype=np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return target


def read_imatrix(file: Path) -> dict[str, Any]:
    """Return the mean squared input of each column, by tensor name. Raises QuantizeError for another kind of file."""
    from gguf import GGUFReader

    try:
        tensors = {tensor.name: tensor.data for tensor in GGUFReader(file).tensors}
    except (ValueError, OSError) as error:
        raise QuantizeError(f"{file.name} is no importance matrix: {error}") from None
    names = [name.removesuffix(_SUMS) for name in tensors if name.endswith(_SUMS)]
    if not names:
        raise QuantizeError(f"{file.name} is no importance matrix: it holds no sums of squares")
    return {name: tensors[name + _SUMS].reshape(-1) / float(tensors[name + _COUNTS].reshape(-1)[0]) for name in names}
