"""File sizes from shapes alone: against files other people published, and llama.cpp's rules where they are odd."""

import pytest

from lekhai_helpers.prepare.model_facts import recorded_facts
from lekhai_helpers.ship import fit

QWEN = recorded_facts("Qwen/Qwen2.5-7B-Instruct").config
MISTRAL = {
    **{"model_type": "llama", "num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32},
    **{"num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 32768, "tie_word_embeddings": False},
}


def test_published_files_are_met_within_five_percent():
    table = fit.published_check()
    assert len(table) == 3 and (table["off"].abs() < 0.05).all()
    assert table.loc["meta-llama/Llama-3.1-8B", "estimated_gb"] == pytest.approx(4.92, rel=0.002)


def test_the_published_7b_is_not_mistral():
    """4.37 GB by its shapes, 8% from the published 4.76: the shapes decide which 7B was meant."""
    assert fit.file_mb(MISTRAL, "q4_k_m") / 1e3 == pytest.approx(4.37, rel=0.005)
    assert fit.file_mb(MISTRAL, "q4_k_m") / 1e3 < 4.76 * 0.95


# Sizes in bytes of files that llama.cpp wrote of the embedded base (trimmed to 34622 pieces).
@pytest.mark.parametrize(
    ("kind", "size"), [("f16", 245974208), ("q8_0", 131197824), ("q5_k_m", 99679104), ("q4_k_m", 92767104)]
)
def test_the_files_llama_cpp_wrote_are_met_within_two_percent(kind, size):
    assert fit.file_mb(fit.EMBEDDED_CONFIG, kind) == pytest.approx(size / 1e6, rel=0.001)


def test_rows_of_640_fall_back_to_larger_types():
    """They are no multiple of 256, so the file is larger than four bits a weight would make it."""
    types = {name: kind for name, _, kind in fit.tensor_types(fit.EMBEDDED_CONFIG, "q4_k_m")}
    assert types["output"] == "q8_0" and types["blk.3.q_proj"] == "q5_0" and types["blk.3.ffn_down"] == "q4_k"
    assert types["blk.0.ffn_down"] == "q6_k" and types["blk.0.attn_v"] == "q8_0" and types["blk.3.attn_v"] == "q5_0"
    five = {name: kind for name, _, kind in fit.tensor_types(fit.EMBEDDED_CONFIG, "q5_k_m")}
    assert five["blk.3.q_proj"] == "q5_1" and five["blk.3.o_proj"] == "q5_k"


def test_the_layers_with_more_bits_are_llama_cpps():
    """Seen in a file it wrote: the first eighth, the last eighth, every third between."""
    types = {name: kind for name, _, kind in fit.tensor_types(fit.EMBEDDED_CONFIG, "q4_k_m")}
    better = [layer for layer in range(18) if types[f"blk.{layer}.ffn_down"] == "q6_k"]
    assert better == [0, 1, 4, 7, 10, 13, 15, 16, 17]


def test_a_dictionary_of_its_own_counts_twice():
    types = {name: kind for name, _, kind in fit.tensor_types(QWEN, "q4_k_m")}
    assert types["output"] == "q6_k" and types["token_embd"] == "q4_k"
    assert "token_embd" not in {name for name, *_ in fit.tensor_types(fit.EMBEDDED_CONFIG, "q4_k_m")}


def test_every_number_of_a_model_is_counted_once():
    assert sum(numbers for _, numbers, _ in fit.tensor_types(QWEN, "f16")) == 7_615_616_512


def test_the_cache_is_what_the_formula_says_and_a_window_keeps_it_small():
    assert fit.kv_cache_mb(QWEN, 4096) == pytest.approx(2 * 28 * 512 * 2 * 4096 / 1e6)
    assert fit.sliding_layers(QWEN) == (0, 0)
    assert fit.sliding_layers(fit.EMBEDDED_CONFIG) == (15, 512)
    whole = 2 * 256 * 2 * 18 * 16384 / 1e6
    assert fit.kv_cache_mb(fit.EMBEDDED_CONFIG, 16384) < 0.3 * whole
    assert fit.kv_cache_mb(fit.EMBEDDED_CONFIG, 512) == pytest.approx(2 * 256 * 2 * 18 * 512 / 1e6)


def test_gemma_2_slides_in_every_second_layer_and_gemma_3_in_five_of_six():
    assert fit.sliding_layers(recorded_facts("google/gemma-2-9b-it").config) == (21, 4096)
    assert fit.sliding_layers(recorded_facts("google/gemma-3-1b-it").config) == (22, 512)


def test_what_fits_where():
    table = fit.fit_table(fit.recipe_bases())
    laptop, t4, rtx = (machine.name for machine in fit.MACHINES)
    seven, nine = (next(base for base in table.index.levels[0] if base.startswith(size)) for size in ("7B", "9B"))
    assert table.loc[(seven, "q4_k_m"), laptop] == "fits"  # as published: a 7B in Q4_K_M runs in 8 GB up to 4k
    assert table.loc[(nine, "q4_k_m"), laptop].startswith("no: ") and table.loc[(nine, "q4_k_m"), rtx] == "fits"
    assert table.loc[(seven, "f16"), t4].startswith("no: ") and table.loc[(nine, "q8_0"), t4] == "fits"
    assert (table["needs_gb"] > table["size_gb"] + table["kv_gb"]).all() and len(table) == 20


def test_an_unknown_kind_and_a_config_without_sizes_are_named():
    with pytest.raises(ValueError, match="iq2_xs is no file type known here"):
        fit.file_mb(QWEN, "iq2_xs")
    with pytest.raises(ValueError, match="intermediate_size"):
        fit.file_mb({key: value for key, value in QWEN.items() if key != "intermediate_size"}, "f16")
