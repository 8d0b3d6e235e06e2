"""What code can count is counted, and what is missing is counted as missing."""

from lekhai_helpers.measure.counting import counted_table
from lekhai_helpers.measure.judge import heatmap_table
from lekhai_helpers.prepare.contracts.ad_script_counts import counted
from lekhai_helpers.prepare.dataset import Brief

RESPONSE = {"stage": "sft", "brief_id": "b1", "seed": 1, "prompt": "চায়ের বিজ্ঞাপন", "text": "| ক | খ |"}
BRIEF = Brief("b1", "চা", "শান্ত", 15, "ধোঁয়াতলা", "চা", "ধোঁয়াতলা চায়ের ছবি")


def script(last="ভিও: ধোঁয়াতলা চা। আজই নিন।"):
    rows = [("চুলায় কেটলি।", "মা: চা হলো?"), ("জানালায় বৃষ্টি।", "রিনা: দাঁড়াও।"), ("উঠান।", "বাবা: গন্ধ পেলাম!")]
    lines = [f"| {visual} | {audio} |" for visual, audio in [*rows, ("প্যাকশট: কাপ।", last)]]
    return "\n".join(["| Visual | Audio |", "|---|---|", *lines])


def test_what_code_can_count_is_counted():
    facts = counted(script(), BRIEF)
    assert facts.pop("bengali_share") > 0.99
    assert facts == {
        "valid_table": True, "rows": 4, "rows_fit": True, "brand_named": True, "repeated_rows": 0,
        "call_to_action": True, "problems": [],
    }  # fmt: skip


def test_what_is_missing_is_counted_as_missing():
    facts = counted(script("ভিও: সারা দিন বৃষ্টি।"), BRIEF)
    assert not facts["brand_named"] and not facts["call_to_action"]
    empty = counted("", BRIEF)
    assert not empty["valid_table"] and not empty["rows_fit"] and empty["rows"] == 0


def test_counted_criteria_make_a_heatmap_too():
    means, counts = heatmap_table(counted_table([RESPONSE | {"text": script()}], [BRIEF]))
    assert means.loc["চা", "valid_table"] == 1
    assert counts.loc["চা"].sum() == 6
