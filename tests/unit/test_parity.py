"""The parity gate finds every fault that makes an exported model another one, and names its cause, without a model."""

from dataclasses import replace

import numpy as np
import pytest

from lekhai_helpers.core import hardware
from lekhai_helpers.core.recipe import resolve
from lekhai_helpers.prepare.embedded import CHAT_TEMPLATE
from lekhai_helpers.ship import parity_checks as checks
from lekhai_helpers.ship.errors import QuantizeError
from lekhai_helpers.ship.gguf_facts import GgufFacts, read_facts, rewrite
from lekhai_helpers.ship.ollama_template import OLLAMA_TEMPLATE, modelfile, read_modelfile, render_template
from lekhai_helpers.ship.parity_answers import check_distance, check_share, check_stops
from lekhai_helpers.ship.parity_checks import Check, Reference, View
from lekhai_helpers.ship.parity_result import Parity
from lekhai_helpers.ship.quantize import exl_sentence
from lekhai_helpers.ship.quantize_process import struct_at
from lekhai_helpers.ship.scoring import Passage, Scored, distance, distinct_scripts, kept_mb, kl_interval
from lekhai_helpers.ship.scoring_rows import Rows

PIECES = ("<pad>", "<eos>", "<bos>", "<unk>", "এক", "দুই", "▁", "তিন")
PROMPTS = [("সিস্টেম", "এক"), ("", "দুই")]


@pytest.fixture(scope="module")
def settings():
    return resolve("lekhai", "smoke")


def laid_out(system: str, prompt: str) -> str:
    head = f"{system}\n\n" if system else ""
    return f"<bos>{head}### Request:\n{prompt}\n\n### Answer:\n"


@pytest.fixture
def reference():
    return Reference(
        rendered=tuple(laid_out(*prompt) for prompt in PROMPTS),
        ids=((2, 4, 5), (2, 5, 6)),
        pieces=PIECES,
        rows=8,
        bos=2,
        ends=frozenset({1}),
        turn_end=1,
        special=frozenset({0, 1, 2, 3}),
        added=frozenset(),
        bos_text="<bos>",
    )


@pytest.fixture
def view(reference):
    facts = GgufFacts("gemma3", "llama", "default", PIECES, 8, 2, 1, None, None, CHAT_TEMPLATE)
    return View("a.gguf", facts, reference.rendered, reference.ids, reference.ids, (3,), frozenset({1}))


# --- the four questions of a file


def test_a_file_that_is_the_same_model_passes_every_check(reference, view):
    """llama.cpp leaves the start mark out of the text where it adds it itself: that is no difference."""
    without = replace(view, rendered=tuple(text.removeprefix("<bos>") for text in view.rendered))
    for each in (view, without):
        assert checks.check_vocabulary(reference, each.facts, "a.gguf").passed
        for check in (checks.check_rendered, checks.check_ids, checks.check_bos, checks.check_ends):
            assert check(reference, each).passed, check(reference, each)


def test_another_template_is_found_with_the_place(reference, view):
    other = tuple(text.replace("Answer", "Script") for text in view.rendered)
    found = checks.check_rendered(reference, replace(view, rendered=other))
    assert not found.passed and found.cause == "template" and "convert again" in found.fix
    assert "2 of 2 prompts differ" in found.found and "'Answer" in found.found.replace("### ", "'")


def test_other_tokens_are_the_pre_tokenizers_fault_or_a_special_tokens(reference, view):
    """The remedy differs: another converter for the one, the marks of the dictionary for the other."""
    cut = checks.check_ids(reference, replace(view, ids=((2, 4, 7), (2, 5, 6))))
    assert (cut.passed, cut.cause) == (False, "pre-tokenizer")
    assert "1 of 4 readings differ, first at token 2: ['দুই'] became ['তিন']" in cut.found and "'default'" in cut.fix
    special = checks.check_ids(reference, replace(view, ids=((4, 4, 5), (2, 5, 6))))
    assert (special.passed, special.cause) == (False, "special token")


def test_the_same_text_cut_otherwise_where_llama_cpp_adds_the_start_mark_itself_is_found(reference, view):
    """A space put before every text shows only where the start mark is no part of the text."""
    found = checks.check_ids(reference, replace(view, started=((2, 6, 4, 5), (2, 5, 6))))
    assert not found.passed and "1 of 4 readings" in found.found and found.cause == "pre-tokenizer"
    twice = replace(view, started=((2, 2, 4, 5), (2, 2, 5, 6)))
    assert checks.check_ids(reference, twice).passed


def test_tokens_cut_short_are_found(reference, view):
    found = checks.check_ids(reference, replace(view, ids=((2, 4), (2, 5, 6))))
    assert not found.passed and "first at token 2" in found.found


@pytest.mark.parametrize(
    ("started", "cause", "words"),
    [
        (((2, 2, 4, 5), (2, 2, 5, 6)), "template", "2 at the start where Hugging Face has 1"),
        (((4, 5), (5, 6)), "special token", "0 at the start where Hugging Face has 1"),
        (((2, 4, 5), (2, 2, 5, 6)), "template", "1 or 2 at the start"),
    ],
)
def test_a_start_mark_twice_or_never_is_found(reference, view, started, cause, words):
    """Twice, from the template and from llama.cpp, makes every answer a little worse and no other check red."""
    found = checks.check_bos(reference, replace(view, started=started))
    assert not found.passed and found.cause == cause and words in found.found


def test_what_llama_cpp_really_read_counts(reference, view):
    found = checks.check_bos(reference, replace(view, evaluated=(4,)))
    assert not found.passed and "[4] tokens read where Hugging Face has [3]" in found.found


def test_a_model_without_a_start_mark_passes(reference, view):
    none = replace(reference, bos=None, ids=((4, 5, 6), (5, 6)), bos_text="")
    assert checks.check_bos(none, replace(view, started=none.ids)).passed


def test_an_end_that_one_side_does_not_know_is_found(reference, view):
    missing = replace(view, ends=frozenset({2}), facts=replace(view.facts, eos=2))
    for other in (missing, replace(view, facts=replace(view.facts, eos=None)), replace(view, ends=frozenset())):
        found = checks.check_ends(reference, other)
        assert not found.passed and found.cause == "special token" and "must be 1" in found.fix
    unknown = checks.check_ends(replace(reference, ends=frozenset({0})), view)
    assert not unknown.passed and "generation_config.json" in unknown.fix
    silent = checks.check_ends(replace(reference, turn_end=None), view)
    assert not silent.passed and silent.cause == "template"


@pytest.mark.parametrize(("pieces", "rows"), [((*PIECES, "[PAD8]"), 8), (PIECES, 9), ((*PIECES, "[PAD8]"), 9)])
def test_a_padded_dictionary_is_found(reference, view, pieces, rows):
    found = checks.check_vocabulary(reference, replace(view.facts, pieces=pieces, rows=rows), "a.gguf")
    assert not found.passed and found.cause == "vocabulary padding" and "resize_token_embeddings" in found.fix


def test_a_dictionary_in_another_order_is_found(reference, view):
    swapped = (*PIECES[:4], "দুই", "এক", *PIECES[6:])
    found = checks.check_vocabulary(reference, replace(view.facts, pieces=swapped), "a.gguf")
    assert not found.passed and "token 4 is 'এক' in the model and 'দুই' in the file" in found.found


# --- the Modelfile


def test_the_modelfile_we_write_passes(reference, settings):
    written = read_modelfile(modelfile("a.gguf", settings, CHAT_TEMPLATE))
    assert (written.source, written.system, written.stops) == ("./a.gguf", settings.system_prompt, ("<eos>",))
    assert [check.passed for check in checks.check_modelfile(reference, written, PROMPTS)] == [True, True]


def test_another_models_template_is_left_to_ollama(reference, settings):
    written = read_modelfile(modelfile("a.gguf", settings, "{{ another }}"))
    (only,) = checks.check_modelfile(reference, written, PROMPTS)
    assert only.passed and "inside the file" in only.found


@pytest.mark.parametrize("fault", ["### Script:", "### Answer: "])
def test_a_wrong_template_in_the_modelfile_is_found(reference, settings, fault):
    text = modelfile("a.gguf", settings, CHAT_TEMPLATE).replace("### Answer:", fault)
    found = checks.check_modelfile(reference, read_modelfile(text), PROMPTS)[0]
    assert not found.passed and found.cause == "template" and "write_modelfile" in found.fix


@pytest.mark.parametrize("stop", ["", 'PARAMETER stop "<bos>"\n', 'PARAMETER stop "<eos>"\nPARAMETER stop "|"\n'])
def test_a_wrong_stop_in_the_modelfile_is_found(reference, settings, stop):
    """A stroke as a stop ends every table in its first row."""
    text = modelfile("a.gguf", settings, CHAT_TEMPLATE).replace('PARAMETER stop "<eos>"\n', stop)
    found = checks.check_modelfile(reference, read_modelfile(text), PROMPTS)[1]
    assert not found.passed and found.cause == "special token" and 'stop "<eos>"' in found.fix


def test_a_parameter_inside_the_system_text_is_no_parameter():
    read = read_modelfile('FROM ./a.gguf\nSYSTEM """a\nPARAMETER stop "x"\n"""\nPARAMETER stop "<eos>"\n')
    assert read.stops == ("<eos>",) and read.template is None


def test_a_modelfile_without_a_file_and_a_system_text_that_cannot_be_quoted_are_refused(settings):
    with pytest.raises(QuantizeError, match="no FROM line"):
        read_modelfile("PARAMETER top_k 0\n")
    with pytest.raises(QuantizeError, match="system_prompt"):
        modelfile("a.gguf", settings.model_copy(update={"system_prompt": 'a """ b'}), CHAT_TEMPLATE)


def test_our_template_renders_with_and_without_a_system_text():
    for system, prompt in PROMPTS:
        assert "<bos>" + render_template(OLLAMA_TEMPLATE, system, prompt) == laid_out(system, prompt)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("a {{- .Prompt -}} b", "aPb"),
        ("a {{.Prompt}} b", "a P b"),
        ("{{ if .System }}\n{{- .System }}!{{ end -}}\n x", "S!x"),
        ("{{ if .System }}{{ if .Prompt }}both{{ end }}{{ end }}", "both"),
    ],
)
def test_trim_marks_and_nesting_as_go_has_them(template, expected):
    assert render_template(template, "S", "P") == expected


@pytest.mark.parametrize(
    ("template", "named"),
    [
        ("{{ range .Messages }}x{{ end }}", "range .Messages"),
        ("{{ if .System }}a{{ else }}b{{ end }}", "else"),
        ("{{ if eq .Role 1 }}a{{ end }}", "if eq .Role 1"),
        ("{{ .Tools }}", ".Tools"),
        ("a{{ end }}", "end"),
        ("{{ if .System }}a", "closes"),
    ],
)
def test_anything_else_is_refused_by_name(reference, template, named):
    with pytest.raises(QuantizeError, match=named):
        render_template(template, "S", "P")
    found = checks.check_modelfile(reference, read_modelfile(f'FROM a\nTEMPLATE """{template}"""\n'), PROMPTS)
    assert [check.passed for check in found] == [False] and found[0].cause == "template"


# --- what a file answers


def test_a_file_that_runs_on_where_hugging_face_stopped_is_not_passed():
    """Asked of the 16-bit file only, a Q4_K_M that ended half of its answers went out under "Export OK"."""
    ours, half = [True] * 4, [True, True, False, False]
    assert check_stops("f16", ours, ours, whole=True).passed
    small, whole = (check_stops("f", ours, half, whole=whole) for whole in (False, True))
    assert (small.passed, small.cause) == (False, "rounding") and (whole.passed, whole.cause) == (
        False,
        "special token",
    )
    assert "of 4 answers 2 ended by themselves, 4 in Hugging Face; 2 ran on" in small.found and small.fix
    assert check_stops("f", ours, [True, True, True, False], whole=False).passed
    once, same = [True, True, True, False], [False] * 4  # one in four may run on by chance, but not by the same text
    assert check_stops("f16", ours, once, whole=True, parted=[False, False, False, True]).passed
    assert check_stops("f16", ours, once, whole=True, parted=same).cause == "special token"
    assert check_stops("q8_0", ours, once, whole=False, parted=same).passed
    assert check_stops("f", [True, False, False, False], [True] + [False] * 3, whole=False).passed


def test_what_was_not_asked_and_what_never_ends_does_not_pass():
    assert (silent := check_stops("f", [], [], whole=False)).cause == "not shown" and not silent.passed
    endless = check_stops("f", [False] * 2, [False] * 2, whole=True)
    assert not endless.passed and endless.cause == "training"


def test_a_16_bit_answer_that_went_another_way_and_ran_on_shows_nothing():
    """One near tie early in a text is no broken end mark; the same text, and then on, is."""
    how = {"ours": [True, True], "theirs": [True, False], "whole": True}
    causes = [check_stops("f16", **how, parted=parted).cause for parted in ([False, True], [True, False], [True, True])]
    assert causes == ["not shown", "special token", "not shown"]
    lost = check_stops("f16", **how, parted=[False, True])
    parity = Parity((lost,), ({"file": "f16"},), 20, 2)
    assert "greedy=12" in lost.fix and not parity.ok and not parity.faults and parity.passed == []


def test_a_contract_share_more_than_ten_points_under_the_16_bit_ones_is_not_passed():
    assert check_share("f", 0.7, 0.8).passed and check_share("f", 1.0, 0.8).passed
    lost = check_share("f", 0.69, 0.8)
    assert not lost.passed and lost.cause == "rounding" and "69% of its texts are valid, 80% of" in lost.found


def test_a_distance_that_is_no_number_does_not_pass():
    assert [check_distance("f", d, 0.05).passed for d in (0.05, 0.06, float("nan"))] == [True, False, False]


# --- the sentence


def test_the_sentence_names_the_files_that_pass_and_those_that_do_not():
    good = [Check("token ids", name, True, "x") for name in ("f16.gguf", "q8.gguf", "q4.gguf")]
    lost = [check_stops("q4.gguf", [True] * 4, [False] * 4, whole=False), check_share("q4.gguf", 0.1, 0.9)]
    rows = tuple({"file": check.file} for check in good)
    parity = Parity((*good, *lost, Check("Modelfile stop", "Modelfile", True, "x")), rows, 20, 4)
    assert parity.ok and not parity.faults and parity.passed == ["f16.gguf", "q8.gguf"]
    said = parity.sentence
    assert said.startswith("Export OK: on 20 prompts 2 of 3 GGUF files (f16.gguf, q8.gguf) give Hugging Face's text")
    assert "(asked on 4 prompts, one in four may run on). The Modelfile lays the prompts out alike. Not passed:" in said
    assert "Not passed: q4.gguf (stops by itself: of 4 answers 0 ended" in said
    assert "4 ran on; contract share: 10%" in said and "Cause: rounding. Remedy: take the next larger kind" in said
    hard = Check("end of turn", "q8.gguf", False, "found", "special token", "do this")
    worse = Parity((*good, *lost, hard), rows, 20, 4)
    assert not worse.ok and worse.sentence.startswith("Not passed: 1 of 6 checks failed. First: end of turn of q8.gguf")
    assert worse.passed == ["f16.gguf"] and worse.faults == [hard]


def test_a_model_that_never_ends_is_no_fault_of_a_file_but_no_export_ok():
    endless = check_stops("f16.gguf", [False] * 2, [False] * 2, whole=True)
    parity = Parity((endless,), ({"file": "f16.gguf"},), 20, 2)
    assert not parity.ok and parity.sentence.startswith("Not passed") and not parity.faults
    assert parity.passed == ["f16.gguf"]


def test_export_ok_is_said_only_where_every_check_passed():
    good, bad = Check("a", "f", True, "x"), Check("token ids", "f", False, "found", "pre-tokenizer", "do this")
    assert Parity((good, good), ({"file": "f"},), 20).sentence.startswith("Export OK: on 20 prompts 1 of 1 GGUF")
    for wrong in ((good, bad), (bad,), ()):
        assert "Export OK" not in Parity(wrong, (), 20).sentence and not Parity(wrong, (), 20).ok
    sentence = Parity((good, bad), (), 20).sentence
    assert "1 of 2 checks failed" in sentence and "Cause: pre-tokenizer. Remedy: do this." in sentence
    assert list(Parity((good, bad), (), 20).table()["passed"]) == [True, False]


# --- figures


def test_perplexity_and_distance_by_hand():
    one, other = Scored(((-1.0, -3.0), (-2.0,))), Scored(((-1.5, -3.0), (-1.0,)))
    assert one.perplexity == pytest.approx(np.exp(2.0)) and distance(one, other) == pytest.approx(0.5)
    assert np.isnan(Scored(()).perplexity)
    with pytest.raises(ValueError, match="same passages"):
        distance(one, Scored(((-1.0,), (-2.0,))))


def test_the_divergence_of_rows_is_the_textbooks(tmp_path):
    """p = (1/2, 1/4, 1/4), q = (1/4, 1/2, 1/4): KL = 1/2 ln 2 - 1/4 ln 2."""
    p, q = (np.log(np.array(row, dtype=np.float32)) for row in ((0.5, 0.25, 0.25), (0.25, 0.5, 0.25)))
    kept = Rows(2, keep=tmp_path / "rows")
    for row in (p, q, p, q):
        kept.take(row)
    kept.close()
    assert (tmp_path / "rows").stat().st_size == 2 * 3 * 4 and kept.mean_kl is None
    again = Rows(2, against=tmp_path / "rows")
    for row in (p, p, q, p):
        again.take(row)
    again.close()
    assert again.mean_kl == pytest.approx(0.25 * np.log(2) / 2) and again.same_next == 0.5


def test_divergences_are_kept_by_passage(tmp_path):
    def read(**how):
        rows = Rows(2, **how)
        for places in (3, 0, 2):  # the first, third and fifth place of five are looked at
            for _ in range(places):
                rows.take(np.log(np.array([0.5, 0.5], dtype=np.float32)))
            rows.end_passage()
        rows.close()
        return rows.by_passage

    assert read(keep=tmp_path / "rows") == []
    assert read(against=tmp_path / "rows") == [[0.0, 0.0], [], [0.0]]


def test_the_interval_of_a_distance_draws_scripts_and_not_places():
    """Places of one script are alike: 600 of them in six scripts are six witnesses, not 600."""
    lengths = (50, 150, 100, 100, 100, 100)
    uneven = tuple((value,) * n for value, n in zip((0.0, 0.3, 0.1, 0.05, 0.2, 0.15), lengths, strict=True))
    scored = Scored((), kl=0.15, divergences=uneven)
    low, high = kl_interval(scored)
    assert low < 0.1 < 0.15 < high < 0.3 and kl_interval(scored) == (low, high)
    assert scored.places == 600 and scored.kls == pytest.approx([0.0, 0.3, 0.1, 0.05, 0.2, 0.15])
    places = tuple((value,) for passage in uneven for value in passage)
    narrow = kl_interval(Scored((), divergences=places))
    assert narrow[1] - narrow[0] < (high - low) / 5
    assert kl_interval(Scored((), divergences=uneven[:2])) is None and kl_interval(Scored(())) is None


def test_a_script_in_two_wordings_is_one_script():
    rows = [{"id": n, "completion": [{"role": "assistant", "content": text}]} for n, text in enumerate("aabca")]
    assert [row["id"] for row in distinct_scripts(rows)] == [0, 2, 3] and len(distinct_scripts(rows, limit=2)) == 2


def test_the_kept_predictions_are_reckoned_before_they_are_written():
    assert kept_mb([Passage(tuple(range(30)), 10)] * 2, 1000, every=4) == pytest.approx(11 * 1000 * 4 / 1e6)


def test_a_token_of_no_probability_adds_nothing(tmp_path):
    row = np.array([0.0, -np.inf], dtype=np.float32)
    for rows in (Rows(1, keep=tmp_path / "rows"), compared := Rows(1, against=tmp_path / "rows")):
        with np.errstate(invalid="ignore"):
            rows.take(row)
        rows.close()
    assert compared.mean_kl == 0.0


def test_rows_of_another_dictionary_or_of_other_texts_are_refused(tmp_path):
    kept = Rows(1, keep=tmp_path / "rows")
    for _ in range(2):
        kept.take(np.zeros(3, dtype=np.float32))
    kept.close()
    with pytest.raises(QuantizeError, match="not of 4 tokens"):
        other = Rows(1, against=tmp_path / "rows")
        other.take(np.zeros(4, dtype=np.float32))
        other.take(np.zeros(4, dtype=np.float32))
    shorter = Rows(1, against=tmp_path / "rows")
    shorter.take(np.zeros(3, dtype=np.float32))
    with pytest.raises(QuantizeError, match="other texts"):
        shorter.close()


# --- the file's own words


@pytest.fixture
def small(tmp_path):
    """A GGUF of a few bytes with the fields the gate reads."""
    from gguf import GGUFWriter

    writer = GGUFWriter(tmp_path / "small.gguf", "gemma3")
    writer.add_tokenizer_model("llama")
    writer.add_token_list(list(PIECES))
    writer.add_token_scores([0.0] * 8)
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(1)
    writer.add_chat_template("{{ a }}")
    writer.add_tensor("token_embd.weight", np.arange(32, dtype=np.float16).reshape(8, 4))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tmp_path / "small.gguf"


def test_a_files_facts_are_read_and_rewritten_without_touching_the_weights(small, tmp_path):
    facts = read_facts(small)
    assert (facts.pieces, facts.rows, facts.bos, facts.eos, facts.eot) == (PIECES, 8, 2, 1, None)
    changes = {
        "tokenizer.ggml.eos_token_id": None,
        "tokenizer.chat_template": "{{ b }}",
        "tokenizer.ggml.add_bos_token": True,
    }
    changes |= {"tokenizer.ggml.eot_token_id": 1, "tokenizer.ggml.tokens": [*PIECES, "[PAD]"]}
    other = read_facts(rewrite(small, tmp_path / "other.gguf", changes))
    assert other == replace(facts, eos=None, template="{{ b }}", add_bos=True, eot=1, pieces=(*PIECES, "[PAD]"))
    from gguf import GGUFReader

    before, after = (GGUFReader(tmp_path / name).tensors[0].data for name in ("small.gguf", "other.gguf"))
    assert np.array_equal(before, after)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.gguf", "small.gguf"]


def test_a_cut_off_file_is_told(small):
    small.write_bytes(small.read_bytes()[:100])
    with pytest.raises(QuantizeError, match="small.gguf is no whole GGUF file"):
        read_facts(small)


def test_an_object_of_another_shape_is_left_alone():
    """Pointers written to the wrong place would end the process, or worse, quantise with nonsense."""

    class Other:
        ftype = 15
        quantize_output_tensor = True

    assert struct_at(Other()) == 0


# --- EXL


def exl_on(monkeypatch, gpu, capability):
    monkeypatch.setattr(hardware, "machine", lambda: {"gpu": gpu, "compute_capability": capability})
    return exl_sentence()


def test_a_t4_is_told_that_exl_needs_a_newer_card(monkeypatch):
    sentence = exl_on(monkeypatch, "Tesla T4", "7.5")
    assert sentence.startswith("Tesla T4 (compute capability 7.5) is older than the Ampere cards (8.0)")
    assert "use the GGUF files" in sentence and "could run" not in sentence


def test_an_rtx_5070_could_run_exl3(monkeypatch):
    sentence = exl_on(monkeypatch, "NVIDIA GeForce RTX 5070", "12.0")
    assert sentence.startswith("NVIDIA GeForce RTX 5070 could run EXL3") and "older" not in sentence


def test_without_a_card_exl_is_not_for_this_machine(monkeypatch):
    assert "this machine has none" in exl_on(monkeypatch, None, None)


def test_a_model_that_never_ends_is_no_fault_of_the_export():
    """A run of a few steps has such a model: the gate may not say that all is well, and the files are right."""
    good = Check("token ids", "a.gguf", True, "the same")
    endless = Check("stops by itself", "a.gguf", False, "0% here and there", checks.TRAINING, "train longer")
    broken = Check("token ids", "a.gguf", False, "others", checks.PRE, "convert again")
    assert Parity((good, endless), (), 20).faults == [] and not Parity((good, endless), (), 20).ok
    assert Parity((good, endless, broken), (), 20).faults == [broken]
