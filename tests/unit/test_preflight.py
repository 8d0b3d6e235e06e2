"""The preflight finds what makes a merge impossible or silently useless, from small files alone."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lekhai_helpers.core.recipe import resolve
from lekhai_helpers.core.run_folder import write_json, write_text
from lekhai_helpers.prepare import model_facts
from lekhai_helpers.prepare.merge_needs import resources, resources_table, shortages
from lekhai_helpers.prepare.model_facts import (
    DEFAULTS,
    MergeError,
    ModelFacts,
    count_parameters,
    read_config,
    read_facts,
    read_licence,
    read_tokens,
    recorded_facts,
    rope_parameters,
    text_part,
)
from lekhai_helpers.prepare.preflight import (
    blocks,
    check_mergeable,
    common_ancestor,
    merged_licence,
    pairs_table,
    preflight_table,
)

CONFIG = {
    "architectures": ["Gemma3ForCausalLM"],
    "num_hidden_layers": 18,
    "hidden_size": 640,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "intermediate_size": 2048,
    "vocab_size": 34_385,
    "rope_parameters": {"full_attention": {"rope_theta": 1e6}, "sliding_attention": {"rope_theta": 1e4}},
    "tie_word_embeddings": True,
    "rms_norm_eps": 1e-6,
    "hidden_activation": "gelu_pytorch_tanh",
    "dtype": "bfloat16",
}
TOKENS = {"<eos>": 0, "মা": 1, "টি": 2, "cat": 3}
FACTS = ModelFacts("a", CONFIG, TOKENS, {"eos_token": "<eos>"}, "gemma", ("a", "root"))
MACHINE = {"ram_gb": 23.5, "ram_free_gb": 20.0, "disk_free_gb": 55.0, "cores": 2}
QWEN, DISTILLED = "Qwen/Qwen2.5-7B", "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"


def changed(config=None, **facts):
    """Return the facts with some of them changed."""
    fields = {name: getattr(FACTS, name) for name in FACTS.__dataclass_fields__} | facts
    return ModelFacts(**fields | {"config": CONFIG | (config or {})})


def found(second, first=FACTS):
    """Return what the preflight finds: name of the check to its verdict, passes left out."""
    return {check.what: check.verdict for check in check_mergeable(first, second) if check.verdict != "pass"}


def test_two_children_of_one_base_pass_every_check():
    assert found(changed()) == {} and blocks(check_mergeable(FACTS, changed())) == []


@pytest.mark.parametrize(
    ("change", "what", "verdict"),
    [
        ({"architectures": ["Qwen2ForCausalLM"]}, "architectures", "block"),
        ({"num_hidden_layers": 26}, "num_hidden_layers", "block"),
        ({"hidden_size": 1152}, "hidden_size", "block"),
        ({"num_attention_heads": 8}, "num_attention_heads", "block"),
        ({"num_key_value_heads": 2}, "num_key_value_heads", "block"),
        ({"head_dim": 128}, "head_dim", "block"),
        ({"intermediate_size": 6912}, "intermediate_size", "block"),
        ({"rope_parameters": {"rope_theta": 1e4}}, "rope parameters", "block"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings", "block"),
        ({"hidden_activation": "silu"}, "hidden_act", "block"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "already quantised", "block"),
        ({"rms_norm_eps": 1e-5}, "rms_norm_eps", "warn"),
        ({"vocab_size": 262_144}, "vocab_size", "warn"),
        ({"dtype": "float16"}, "dtype", "warn"),
    ],
)
def test_each_difference_of_the_configs_is_found_alone_and_by_name(change, what, verdict):
    assert found(changed(change)) == {what: verdict}
    assert found(FACTS, first=changed(change)) == {what: verdict}


@pytest.mark.parametrize(
    ("change", "what", "verdict"),
    [
        ({"tokens": TOKENS | {"cat": 2, "টি": 3}}, "same tokens", "warn"),
        ({"tokens": TOKENS | {"বাড়ি": 4}}, "same tokens", "warn"),
        ({"tokens": {"<eos>": 0, "un": 1, "deux": 2, "trois": 3}}, "same tokens", "block"),
        ({"tokens": None}, "same tokens", "warn"),
        ({"special": {"eos_token": "<end_of_turn>"}}, "special tokens", "warn"),
        ({"special": None}, "special tokens", "warn"),
        ({"licence": "apache-2.0"}, "licence", "warn"),
        ({"licence": None}, "licence", "warn"),
        ({"ancestors": ("b", "stranger")}, "lineage", "warn"),
        ({"ancestors": ()}, "lineage", "warn"),
    ],
)
def test_each_difference_beside_the_configs_is_found_alone_and_by_name(change, what, verdict):
    assert found(changed(**change)) == {what: verdict}
    assert found(FACTS, first=changed(**change)) == {what: verdict}


UNKNOWN = [*sorted(CONFIG.keys() - {"hidden_activation", "rope_parameters", "head_dim"}), "head_dim"]


@pytest.mark.parametrize("key", UNKNOWN)
def test_what_neither_config_says_is_a_warning_and_never_a_pass(key):
    """None equals None: two empty sheets would otherwise pass every check."""
    without = {name: value for name, value in CONFIG.items() if name not in (key, "num_attention_heads")}
    checks = {check.what: check for check in check_mergeable(without, dict(without))}
    assert checks[key].verdict == "warn" and "look it up" in checks[key].consequence


def test_a_bare_config_passes_only_what_a_config_can_say():
    assert found(dict(CONFIG), first=dict(CONFIG)) == dict.fromkeys(
        ("same tokens", "special tokens", "licence", "lineage"), "warn"
    )
    assert set(found({}, first={}).values()) == {"warn"}


def test_scaling_of_positions_counts_as_much_as_their_base():
    """Llama 3 and 3.1 share a base of 500,000 and stretch positions differently."""
    llama = {"model_type": "llama", "rope_theta": 5e5}
    scaled = llama | {"rope_scaling": {"type": "llama3", "factor": 8.0}}
    assert rope_parameters(llama)["all"] == {"rope_theta": 5e5, "rope_type": "default"}
    assert rope_parameters(scaled)["all"] == {"rope_theta": 5e5, "rope_type": "llama3", "factor": 8.0}
    checks = check_mergeable(llama, scaled)
    assert any(reason.startswith("rope parameters: rope_theta 500000 against") for reason in blocks(checks))


def test_older_ways_to_write_the_same_config_are_no_difference():
    old = {key: value for key, value in CONFIG.items() if key not in ("rope_parameters", "dtype")}
    old |= {"rope_theta": 1e6, "rope_local_base_freq": 1e4, "torch_dtype": "bfloat16"}
    old["rms_norm_eps"] = 9.999999974752427e-07  # what becomes of it on its way through a GGUF file
    assert found(ModelFacts("b", old, TOKENS, FACTS.special, "gemma", ("b", "root"))) == {}
    assert rope_parameters(old | {"rope_local_base_freq": 5e4}) != rope_parameters(CONFIG) == rope_parameters(old)


def test_the_text_part_of_a_larger_model_is_compared_too():
    """With its figures one level down both sides had none, and none equals none."""
    nested = {"architectures": CONFIG["architectures"], "text_config": {**CONFIG, "architectures": None}}
    other = nested | {"text_config": nested["text_config"] | {"hidden_size": 2560}}
    assert [reason.split(":")[0] for reason in blocks(check_mergeable(nested, other))] == ["hidden_size"]


@pytest.mark.parametrize("kind", DEFAULTS)
def test_what_a_config_leaves_out_is_filled_with_the_defaults_transformers_has(kind):
    from transformers import CONFIG_MAPPING

    config = CONFIG_MAPPING[kind]().to_dict()
    ours = text_part({"model_type": kind})
    theirs = text_part(config)
    for key in ("tie_word_embeddings", "rms_norm_eps", "hidden_act"):
        assert ours[key] == theirs[key], key
    assert kind in ("llama", "qwen2") or ours["head_dim"] == theirs["head_dim"]
    assert rope_parameters({"model_type": kind}) == rope_parameters(config)


def test_every_finding_has_a_consequence_in_words():
    checks = check_mergeable(FACTS, changed({"hidden_size": 1152, "vocab_size": 9}))
    assert blocks(checks) == ["hidden_size: 640 against 1152, so the tensors have different widths and cannot be added"]
    table = preflight_table(checks)
    assert len(table) == len(checks) and (table["consequence"] != "").sum() == 2


def test_the_share_of_equal_tokens_stands_in_the_table():
    check = next(c for c in check_mergeable(FACTS, changed(tokens=TOKENS | {"cat": 9})) if c.what == "same tokens")
    assert check.first == "4 tokens, 75.0% the same"


@given(st.permutations(range(6)))
def test_a_shuffled_dictionary_never_passes(numbers):
    pieces = dict(zip("কখগঘঙচ", range(6), strict=True))
    shuffled = dict(zip("কখগঘঙচ", numbers, strict=True))
    verdict = found(changed(tokens=shuffled), first=changed(tokens=pieces)).get("same tokens", "pass")
    assert verdict == ("pass" if pieces == shuffled else "warn")


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ("llama3.1", "gpl-3.0", "conflict: gpl-3.0 forbids further terms"),
        ("apache-2.0", "cc-by-nc-4.0", "may not be used in trade"),
        ("cc-by-4.0", "gemma", "the terms of gemma bind"),
        ("mit", "apache-2.0", "keep both texts"),
    ],
)
def test_two_licences_are_weighed_in_words(first, second, words):
    checks = check_mergeable(changed(licence=first), changed(licence=second))
    assert words in next(c.consequence for c in checks if c.what == "licence")


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [
        ("gemma", "gemma", "gemma"),
        ("cc-by-4.0", "gemma", "cc-by-4.0 and gemma"),
        ("gemma", None, None),
        (None, "mit", None),
        (None, None, None),
    ],
)
def test_a_blend_has_the_licences_of_both_and_none_is_guessed(first, second, both):
    assert merged_licence(first, second) == both


def test_a_child_passes_with_its_parent_and_siblings_with_each_other():
    parent, child = changed(ancestors=("root",)), changed(ancestors=("b", "root"))
    assert found(child, first=parent) == {} and common_ancestor(child, parent) == "root"
    assert common_ancestor(child, changed(ancestors=("c", "stranger"))) is None


# --- what is recorded


PAIRS = resolve("lekhai", "smoke").merge.pairs
OUTCOMES = {
    "the plan's pair": (
        {"architectures", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim"}
        | {"intermediate_size", "tie_word_embeddings", "hidden_act"}
    ),
    "same shapes, other positions": {"rope parameters"},
    "the Math line": set(),
    "Gemma 3 at 1B": set(),
    "Gemma 2 at 9B": set(),
    "Qwen at 7B": set(),
    "Llama at 8B": set(),
}


@pytest.mark.parametrize("pair", OUTCOMES)
def test_each_recorded_pair_gets_its_verdict(pair):
    """Distil and Qwen 2.5 have equal shapes: mergekit merges them without a word, into a model that speaks garbage."""
    verdicts = found(*(recorded_facts(name) for name in reversed(PAIRS[pair])))
    assert {what for what, verdict in verdicts.items() if verdict == "block"} == OUTCOMES[pair]
    assert verdicts["same tokens"] == "warn"  # no dictionary is recorded, and nobody may take that for a pass


def test_the_table_of_pairs_has_a_row_for_every_pair_of_the_recipe():
    table = pairs_table(PAIRS)
    assert list(table.index) == list(OUTCOMES) and set(table["verdict"]) == {"block", "warn"}
    assert table.loc["same shapes, other positions", "blocked by"] == "rope parameters"


def test_second_hand_values_are_marked_and_equal_ones_do_not_pass():
    checks = {c.what: c for c in check_mergeable(*(recorded_facts(name) for name in PAIRS["Gemma 2 at 9B"]))}
    assert checks["hidden_size"].verdict == "warn" and "(?)" in checks["hidden_size"].first
    assert "(?)" not in str(checks["hidden_size"].second) and "second hand" in checks["hidden_size"].consequence
    assert checks["lineage"].verdict == "warn" and checks["architectures"].verdict == "pass"


def test_every_recorded_model_says_all_it_must_and_doubts_only_what_is_compared():
    known = model_facts._known()
    compared = {check.what for check in check_mergeable(CONFIG, CONFIG)} | {"base_model"}
    assert {name for pair in PAIRS.values() for name in pair} <= set(known) and len(known) == 12
    for name, entry in known.items():
        assert set(entry) == {"note", "config", "special", "licence", "base_model", "uncertain"}, name
        assert set(entry["uncertain"]) <= compared, name
        assert rope_parameters(entry["config"]), name


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("google/gemma-3-1b-it", 999_885_952),
        ("google/gemma-2-9b-it", 9_241_705_984),
        (QWEN, 7_615_616_512),
        ("meta-llama/Llama-3.1-8B", 8_030_261_248),
    ],
)
def test_the_count_of_parameters_is_the_published_one(name, published):
    assert count_parameters(recorded_facts(name).config) == published


def test_a_model_nobody_recorded_is_named():
    with pytest.raises(MergeError, match="nobody/nothing is not recorded"):
        recorded_facts("nobody/nothing")


# --- what is read


def model_folder(folder):
    """Write a folder with the small files of a model."""
    write_json(folder / "config.json", CONFIG)
    vocabulary = {piece: number for piece, number in TOKENS.items() if piece != "<eos>"}
    spec = {"model": {"vocab": vocabulary}, "added_tokens": [{"id": 0, "content": "<eos>"}]}
    write_json(folder / "tokenizer.json", spec)
    write_json(folder / "tokenizer_config.json", {"eos_token": {"content": "<eos>"}, "bos_token": None})
    write_text(folder / "README.md", "---\nlicense: gemma\nbase_model:\n- /nowhere\n---\n# A card\n")
    return folder


def test_facts_are_read_from_the_small_files_of_a_folder(tmp_path):
    facts = read_facts(model_folder(tmp_path))
    assert facts.config == json.loads(json.dumps(CONFIG)) == read_config(str(tmp_path))
    assert facts.tokens == TOKENS and facts.special == {"bos_token": None, "eos_token": "<eos>", "pad_token": None}
    assert (facts.licence, facts.ancestors) == ("gemma", ("/nowhere",))
    assert found(facts, first=facts) == {}


def test_what_we_know_of_our_own_models_stands_before_the_card(tmp_path):
    facts = read_facts(model_folder(tmp_path), licence="mit", parent="our base")
    assert (facts.licence, facts.ancestors) == ("mit", ("our base",))


BROKEN_CARDS = {
    "a bracket nobody closes": "license: [gemma\nbase_model: x",
    "a tab": "license:\n\t- gemma",
    "a colon too many": "license: gemma: mit",
    "a day that never was": "license: gemma\ndate: 2024-13-45",
    "a tag of Python": "license: !!python/name:os.system",
    "a sentence": "no keys at all",
    "nothing": "",
}


@pytest.mark.parametrize("card", BROKEN_CARDS.values(), ids=BROKEN_CARDS)
def test_a_strangers_broken_card_says_nothing_and_ends_nothing(tmp_path, card):
    write_text(model_folder(tmp_path) / "README.md", f"---\n{card}\n---\n# A card\n")
    facts = read_facts(tmp_path)
    assert (facts.licence, facts.ancestors) == (None, ()) and read_licence(tmp_path) is None
    assert found(facts, first=facts) == {"licence": "warn", "lineage": "warn"}


@pytest.mark.parametrize("base_model", ["[]", "{a: b}", "7", "[3]", "''"])
def test_a_parent_that_is_no_name_is_no_parent(tmp_path, base_model):
    card = f"---\nlicense: [mit, apache-2.0]\nbase_model: {base_model}\n---\n"
    write_text(model_folder(tmp_path) / "README.md", card)
    facts = read_facts(tmp_path)
    assert facts.ancestors == () and facts.licence == "mit and apache-2.0"


def test_a_folder_without_card_and_dictionary_knows_less_and_says_so(tmp_path):
    write_json(tmp_path / "config.json", CONFIG)
    facts = read_facts(tmp_path)
    assert (facts.tokens, facts.special, facts.licence, facts.ancestors) == (None, None, None, ())
    assert set(found(facts, first=facts).values()) == {"warn"}


def test_a_unigram_dictionary_is_read_in_its_order(tmp_path):
    spec = {"model": {"vocab": [["<unk>", 0.0], ["মা", -1.0]]}, "added_tokens": []}
    write_json(tmp_path / "tokenizer.json", spec)
    assert read_tokens(tmp_path) == {"<unk>": 0, "মা": 1}


def test_a_folder_that_is_no_model_is_named(tmp_path):
    with pytest.raises(MergeError, match="has no config.json"):
        read_config(tmp_path)


def test_on_a_hub_only_small_files_are_asked_for_and_ancestors_are_followed(tmp_path, monkeypatch):
    """A preflight that fetches the weights costs the 15 GB it is there to save."""
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError

    asked = []

    def download(name, file):
        asked.append(file)
        if name == "x/child":
            folder = model_folder(tmp_path / "child")
            write_text(folder / "README.md", "---\nlicense: gemma\nbase_model: x/parent\n---\n")
            return folder / file
        if name == "x/parent" and file == "README.md":
            write_text(tmp_path / "parent.md", "---\nbase_model: x/root\n---\n")
            return tmp_path / "parent.md"
        raise EntryNotFoundError("no such file")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert read_facts("x/child").ancestors == ("x/child", "x/parent", "x/root")
    assert set(asked) == {"README.md", "config.json", "tokenizer.json", "tokenizer_config.json"}


def test_a_hub_that_does_not_answer_is_said_in_words(monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def download(name, file):
        raise LocalEntryNotFoundError("offline")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(MergeError, match="x/child is no folder here and the hub did not give"):
        read_facts("x/child")


# --- what the machine must have


def test_two_small_folders_fit_and_a_nine_billion_pair_does_not():
    small = resources(FACTS, changed(), MACHINE, merges=5)
    assert [need.verdict for need in small] == ["pass", "pass", "pass"]
    large = [recorded_facts(name) for name in PAIRS["Gemma 2 at 9B"]]
    needs = {need.what: need for need in resources(*large, MACHINE, merges=5)}
    assert needs["disk"].verdict == "block" and needs["disk"].needs == "73.9 GB"  # 18.5 GB: 2 donors, 2 merges
    assert needs["time"].verdict == "warn" and needs["memory"].verdict == "pass"
    assert list(resources_table(needs.values()).columns) == ["needs", "has", "verdict", "consequence"]


@pytest.mark.parametrize(("merges", "copies"), [(0, 3), (1, 4), (2, 4), (5, 4)])
def test_however_many_merges_are_made_two_stand_on_the_disk(merges, copies):
    """All at once, a 9B pair with five t would take 148 GB; without any merge the GGUF of the winner is still made."""
    pair = [recorded_facts(name) for name in PAIRS["Gemma 2 at 9B"]]
    assert resources(*pair, MACHINE, merges)[1].needs == f"{copies * 18.4834:.1f} GB"


def test_what_the_machine_lacks_is_said_in_sentences():
    pair = [recorded_facts(name) for name in PAIRS["Gemma 2 at 9B"]]
    lacks = shortages(resources(*pair, MACHINE, merges=5))
    assert len(lacks) == 1 and lacks[0].startswith("disk: 73.9 GB needed, 59.1 GB free, so donors, two merges")
    assert shortages(resources(FACTS, changed(), MACHINE, merges=5)) == []
    small = shortages(resources(*pair, MACHINE | {"ram_gb": 4.0, "ram_free_gb": 3.0, "disk_free_gb": 500.0}))
    assert len(small) == 1 and "so this machine is too small: merge on a larger one" in small[0]


def test_memory_in_use_is_a_warning_and_memory_not_built_in_a_block():
    pair = [recorded_facts(QWEN)] * 2
    verdicts = [
        resources(*pair, MACHINE | {"ram_gb": ram, "ram_free_gb": free})[0].verdict
        for ram, free in ((16.0, 12.0), (16.0, 4.0), (6.0, 4.0))
    ]
    assert verdicts == ["pass", "warn", "block"]


def test_the_measured_merge_is_estimated_as_it_was_measured():
    memory, _, time = resources(*[recorded_facts(QWEN)] * 2, MACHINE)
    assert float(memory.needs.split()[0]) == pytest.approx(9.4, abs=0.1)  # 8.4 GB measured, and Python
    assert time.needs.startswith("4.0 to 16.0 minutes")
