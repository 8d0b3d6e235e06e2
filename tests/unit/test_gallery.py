"""The error gallery: it finds every fault that was planted, shows the line, and shows nothing that is sound."""

from dataclasses import replace

import pytest

from lekhai_helpers.core.recipe import data_file, resolve
from lekhai_helpers.measure.gallery import Fault, faults, gallery_html, worst
from lekhai_helpers.prepare.contracts import get_contract
from lekhai_helpers.prepare.dataset import Brief, load_table

BRIEF = Brief("b0", "রং", "উষ্ণ", None, "ঝিলমাটি", "দেয়ালের রং", "ঝিলমাটির জন্য একটা catchy jingle লিখুন।")
HEAD = "| Visual | Audio |\n|---|---|\n"
LINES = ["| ক্লোজ-আপ: রঙের টিন। | SFX: ঢং! |", "| মিড শট: মা হাসেন। | মা: কী রং! |", "| প্যাকশট: টিন। | ভিও: ঝিলমাটি। |"]
GOOD = HEAD + "\n".join(LINES)


def row(text, stopped=True, brief="b0", seed=1):
    verdict = get_contract("ad_script")(text)
    return {"brief_id": brief, "seed": seed, "text": text, "ok": verdict.ok, "facts": verdict.facts, "stopped": stopped}


def test_a_sound_script_has_no_fault_and_the_words_of_the_brief_are_no_leak():
    assert faults(row(GOOD), BRIEF) == []
    assert faults(row(GOOD.replace("ঢং!", "Catchy jingle!")), BRIEF) == []


@pytest.mark.parametrize(
    ("text", "what", "line"),
    [
        (GOOD.replace("ঝিলমাটি", "রংধনু"), "the brand ঝিলমাটি is not named", ""),
        (GOOD.replace("মা হাসেন", "মা smiles হাসেন"), "other scripts: smiles", LINES[1].replace("মা হাসেন", "মা smiles হাসেন")),
        (GOOD.replace("কী রং", "क्या रंग"), "other scripts: क्या, रंग", LINES[1].replace("কী রং", "क्या रंग")),
        (GOOD + "\n" + LINES[0], "the same row 2 times", LINES[0]),
        (GOOD + "\n| এক | দুই | তিন |", "row 4 has 3 cell(s) instead of 2", "| এক | দুই | তিন |"),
        (GOOD.replace("মা: কী রং!", ""), "row 2 has an empty cell", "| মিড শট: মা হাসেন। |  |"),
        ("আচ্ছা:\n" + GOOD, "1 line(s) stand outside the table", "আচ্ছা:"),
        (GOOD.replace("Visual", "Shot"), "the header is not | Visual | Audio |", "| Shot | Audio |"),
        (GOOD.replace("|---|---|\n", ""), "the line |---|---| is missing under the header", LINES[0]),
        (
            GOOD.replace("|---|---|\n", "").replace("মা: কী রং!", ""),
            "row 2 has an empty cell",
            "| মিড শট: মা হাসেন। |  |",
        ),
        (GOOD.replace("---", "-").replace("মা: কী রং!", ""), "row 2 has an empty cell", "| মিড শট: মা হাসেন। |  |"),
        (HEAD + LINES[2], "1 row(s); a script has 3 to 16", ""),
        ("ঝিলমাটি", "there is no table", ""),
    ],
)
def test_every_planted_fault_is_found_with_the_line_it_stands_in(text, what, line):
    found = {fault.what: fault.line for fault in faults(row(text), BRIEF)}
    assert found[what] == line


def test_a_film_too_long_for_its_seconds_and_a_text_cut_by_the_limit_are_faults():
    found = faults(row(GOOD, stopped=False), replace(BRIEF, duration_seconds=60))
    assert [fault.what for fault in found] == [
        "3 rows; a film of 60 s has 10 to 14",
        "cut by the limit: it did not end by itself",
    ]
    assert found[1].line == LINES[2]
    assert faults(row("", stopped=False), BRIEF)[-1] == Fault("cut by the limit: it did not end by itself")


def test_the_worst_come_first_and_sound_texts_not_at_all():
    rows = [
        row(GOOD, seed=1),
        row(GOOD.replace("ঝিলমাটি", "রংধনু"), seed=2),
        row(GOOD + "\n| এক | দুই | তিন |", seed=3),
        row("না", seed=4),
        row(GOOD.replace("ঝিলমাটি", "x") + "\n" + LINES[0], seed=5),
    ]
    assert [exhibit.seed for exhibit in worst(rows, [BRIEF])] == [4, 3, 5, 2]
    assert [exhibit.seed for exhibit in worst(rows, [BRIEF], n=2)] == [4, 3]
    with pytest.raises(KeyError):
        worst([row("না", brief="another")], [BRIEF])


def test_the_gallery_shows_text_and_fault_and_no_markup_of_the_model():
    html = gallery_html(worst([row(f"<script>{'ক' * 500}", stopped=False)], [BRIEF])).data
    assert "&lt;script&gt;" in html and "<script>" not in html
    assert "there is no table" in html and "b0, seed 1" in html and html.count("ক") < 700 and " …</pre>" in html
    assert "(empty)" in gallery_html(worst([row("")], [BRIEF])).data
    assert "No text has a fault" in gallery_html([]).data


def test_the_gold_scripts_would_not_hang_in_it():
    table = load_table(data_file(resolve("lekhai", "cpu").data.file))[0]
    for _, gold in table.iterrows():
        seconds = None if gold["duration_seconds"] != gold["duration_seconds"] else int(gold["duration_seconds"])
        brief = Brief(
            gold["id"], gold["industry"], gold["tone"], seconds, gold["brand"], gold["product"], gold["prompt_1"]
        )
        assert faults(row(gold["script"]), brief) == []
