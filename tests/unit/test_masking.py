"""The mask view finds what makes training silently wrong: double BOS, cut rows, rows with nothing to learn."""

import pytest

from lekhai_helpers.prepare.masking import (
    IGNORED,
    check_masks,
    failures,
    mask_text,
    render_mask,
    tokenize_example,
)

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %}<ans>{{ m['content'] }}{{ eos_token }}"
    "{% else %}<req>{{ m['content'] }}{% endif %}{% endfor %}{% if add_generation_prompt %}<ans>{% endif %}"
)
EXAMPLE = {
    "id": "r1",
    "prompt_key": "prompt_1",
    "prompt": [{"role": "system", "content": "লিখুন"}, {"role": "user", "content": "চায়ের ক্ষণ"}],
    "completion": [{"role": "assistant", "content": "| ক্ষীর | আসুন |"}],
}


@pytest.fixture(scope="module")
def tokenizer():
    """One token a byte, as GPT-2 does: a Bengali letter is three tokens, none of them a letter by itself."""
    pytest.importorskip("transformers")
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<bos>", "<eos>", "<req>", "<ans>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({piece: n for n, piece in enumerate([*special, *alphabet])}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(piece, special=True) for piece in special])
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<bos>", eos_token="<eos>", chat_template=TEMPLATE)


@pytest.fixture
def with_template(tokenizer):
    def change(template):
        tokenizer.chat_template = template
        return tokenizer

    yield change
    tokenizer.chat_template = TEMPLATE


def only(tokenizer, example=EXAMPLE, max_length=500):
    return check_masks([example], tokenizer, max_length)


def test_a_sound_example_learns_its_answer_and_the_end_and_nothing_else(tokenizer):
    masked = tokenize_example(EXAMPLE, tokenizer, 500)
    learned = [token for token, label in zip(masked.ids, masked.labels, strict=True) if label != IGNORED]
    assert tokenizer.decode(learned) == "| ক্ষীর | আসুন |<eos>"
    assert [label for label in masked.labels if label != IGNORED] == learned
    assert failures(only(tokenizer)) == []


def test_figures_of_a_sound_example(tokenizer):
    row = only(tokenizer).loc["r1/prompt_1"]
    assert row.tokens == 4 + len("লিখুনচায়ের ক্ষণ".encode()) + len("| ক্ষীর | আসুন |".encode()) + 1
    assert row.learned == len("| ক্ষীর | আসুন |".encode()) + 1
    assert (row.truncated, row.double_bos, row.double_eos, row.ends_with_eos) == (0, False, False, True)


def test_a_text_rendered_before_it_was_tokenized_has_two_bos(with_template):
    assert "two BOS" in failures(only(with_template("{{ bos_token }}" + TEMPLATE)))[0]


def test_a_prompt_rendered_beforehand_has_two_bos(tokenizer):
    """Pre-rendered text put into a message passes the template a second time; the first BOS is then in the middle."""
    rendered = tokenizer.apply_chat_template(EXAMPLE["prompt"], tokenize=False)
    found = only(tokenizer, EXAMPLE | {"prompt": [{"role": "user", "content": rendered}]})
    assert "two BOS" in failures(found)[0]


@pytest.mark.parametrize("ending", ["<eos>", "<eos>\n"])
def test_an_answer_rendered_beforehand_has_two_end_tokens(tokenizer, ending):
    """With the line break many templates write, the two end tokens are no neighbours."""
    answer = [{"role": "assistant", "content": EXAMPLE["completion"][0]["content"] + ending}]
    assert "two end tokens" in failures(only(tokenizer, EXAMPLE | {"completion": answer}))[0]


def test_a_tokenizer_whose_bos_is_its_eos_is_not_blamed(tokenizer):
    """GPT-2 and others have one mark for both: two of them, at the beginning and the end, are right."""
    before = tokenizer.bos_token
    tokenizer.bos_token = "<eos>"
    try:
        assert failures(only(tokenizer)) == []
    finally:
        tokenizer.bos_token = before


def test_the_real_template_of_the_base_passes(with_template):
    from lekhai_helpers.prepare.embedded import CHAT_TEMPLATE

    assert failures(only(with_template(CHAT_TEMPLATE))) == []


def test_a_template_and_data_that_both_end_the_turn_are_found(with_template):
    assert "two end tokens" in failures(only(with_template(TEMPLATE.replace("{{ eos_token }}", "<eos><eos>"))))[0]


def test_a_line_break_after_the_end_token_is_no_fault(with_template):
    assert failures(only(with_template(TEMPLATE.replace("{{ eos_token }}", "<eos>\n")))) == []


def test_a_template_without_end_token_is_found(with_template):
    """A model trained without one writes on until the token limit."""
    assert "would not stop" in failures(only(with_template(TEMPLATE.replace("{{ eos_token }}", ""))))[0]


def test_a_cut_example_is_found(tokenizer):
    found = only(tokenizer, max_length=70)
    assert found.truncated.iloc[0] > 0
    assert failures(found)[0].startswith("1 example(s) are cut")


def test_an_empty_answer_without_an_end_leaves_nothing_to_learn(with_template):
    empty = EXAMPLE | {"completion": [{"role": "assistant", "content": ""}]}
    found = only(with_template(TEMPLATE.replace("{{ eos_token }}", "")), empty)
    assert "have nothing to learn" in failures(found)[0]


def test_an_example_with_nothing_to_learn_is_found(tokenizer):
    """The trainer drops such rows without a word."""
    found = only(tokenizer, max_length=20)
    assert found.learned.iloc[0] == 0
    assert failures(found)[0].startswith("1 example(s) have nothing to learn")


def test_many_failing_examples_are_named_shortly(tokenizer):
    many = [EXAMPLE | {"id": f"r{n}"} for n in range(8)]
    assert "8 example(s)" in failures(check_masks(many, tokenizer, 20))[0]
    assert ", ...)" in failures(check_masks(many, tokenizer, 20))[0]


def test_no_examples_are_no_failures(tokenizer):
    assert failures(check_masks([], tokenizer, 20)) == []


def test_the_view_draws_whole_letters_though_tokens_are_bytes(tokenizer):
    masked = tokenize_example(EXAMPLE, tokenizer, 500)
    assert "�" in "".join(masked.pieces)
    assert mask_text(masked).splitlines() == [
        "[read] <bos><req>লিখুন<req>চায়ের ক্ষণ<ans>",
        "[learn] | ক্ষীর | আসুন |",
        "[end] <eos>",
    ]


def test_the_html_view_escapes_the_text(tokenizer):
    pytest.importorskip("IPython")
    shown = render_mask(tokenize_example(EXAMPLE, tokenizer, 500)).data
    assert "&lt;bos&gt;" in shown and "<bos>" not in shown


def test_a_tokenizer_without_template_is_refused(with_template):
    with pytest.raises(ValueError, match="no chat template"):
        only(with_template(None))
