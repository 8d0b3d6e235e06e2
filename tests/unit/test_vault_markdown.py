"""Obsidian's own marks are understood, and nothing a person wrote is lost with them."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lekhai_helpers.prepare.vault_code import hold_code, put_back
from lekhai_helpers.prepare.vault_front import FrontmatterError
from lekhai_helpers.prepare.vault_markdown import (
    has_tag,
    plain,
    read_note,
    sections,
    text_fields,
    text_tags,
)


@pytest.mark.parametrize(
    ("head", "tags"),
    [
        ("tags: [reflection, Work/press]", {"reflection", "work/press"}),
        ("tags: reflection, work", {"reflection", "work"}),
        ("tags: reflection work", {"reflection", "work"}),
        ('tags: "#reflection #work"', {"reflection", "work"}),
        ("tags:\n  - reflection\n  - 2024", {"reflection", "2024"}),
        ("tag: decision", {"decision"}),
        ("Tags: [Learning]", {"learning"}),
        ("tags:", set()),
        ("private: true", {"private"}),
        ("Private: 'yes'", {"private"}),
        ("private: false", set()),
        ("tags: [[a, [b]], {c: d}]", {"a", "b", "c", "d"}),
        ("tags: work;প্রিয়-বই", {"work", "প্রিয়-বই"}),
    ],
)
def test_tags_of_the_frontmatter_in_their_many_spellings(head, tags):
    assert read_note("a.md", f"---\n{head}\n---\ntext").tags == tags


def test_tags_in_the_text_are_found_and_only_there():
    text = (
        "I see. #reflection (#learning/work) and #জলপিপি, #a-b_c/d\n"
        "# No tag, a heading\n#2024 issue#5 https://x.org/#part `#code` [[Note #heading]]\n```\n#comment\n```\n"
    )
    assert text_tags(text) == {"reflection", "learning/work", "জলপিপি", "a-b_c/d"}


def test_a_nested_tag_counts_for_the_one_above_it():
    tags = text_tags("#decision/review")
    assert has_tag(tags, "decision") and has_tag(tags, "#Decision/review") and not has_tag(tags, "decis")


def test_fields_on_a_line_in_a_list_and_in_brackets():
    text = (
        "mood:: scratchy\n- [x] **lesson**:: one [[two|2]]\n[decided:: live on [[it]]] so (why:: because)\n"
        "std::vector<int> x;\n`a:: b`\n> question:: and now?\nempty::\n"
    )
    assert text_fields(text) == {
        "decided": ["live on it"],
        "why": ["because"],
        "mood": ["scratchy"],
        "lesson": ["one 2"],
        "question": ["and now?"],
        "empty": [""],
    }


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("See [[Money, with an accent]] and [[Folder/Note#Part|that]].", "See Money, with an accent and that."),
        ("[[#Below]] [[../Old khata/2015 and before]]", "Below 2015 and before"),
        ("[on the disk](file:///D:/khata/) ![[tin.jpg]]![alt](a.png)", "on the disk"),
        (
            "> [!question]- If he's hurt?\n> He will be.\n> > [!note]\n> > Inside.",
            "If he's hurt?\nHe will be.\n\nInside.",
        ),
        ("> An ordinary quotation", "> An ordinary quotation"),
        ("kept %% not this\nnor this %% and <!-- hidden --> kept", "kept  and  kept"),
        ("==marked== text ^block-1\nnote[^1]", "marked text\nnote"),
        ("The end. #reflection #decision", "The end."),
        ("That is #learning for me", "That is learning for me"),
        ("```dataview\nLIST\n```\nx `= this.file` y", "x  y"),
        ("```\n# log\n[[kept]] %% kept %%\n```", "```\n# log\n[[kept]] %% kept %%\n```"),
        ("~~~~\n```\n#x\n~~~\n~~~~\nout #tag", "~~~~\n```\n#x\n~~~\n~~~~\nout"),
        ("a `[[b]] #c` d", "a `[[b]] #c` d"),
        ("👩‍👧 we went", "👩‍👧 we went"),
    ],
)
def test_plain_text_is_what_a_reader_sees(text, seen):
    assert plain(text) == seen


def test_only_fields_that_hold_a_thought_are_kept():
    text = "weight:: 46\nlesson:: say thank you\n[decided:: 700] [price:: 380]"
    assert plain(text, keep_field=lambda key: key in ("lesson", "decided")) == "say thank you\n700"


def test_title_and_day_come_from_the_first_place_that_has_them():
    assert read_note("Daily/2023-01-08.md", "# Sunday\ntext").title == "Sunday"
    assert read_note("a/b.md", "---\ntitle: T\n---\n# H").title == "T"
    assert read_note("a/My note.md", "text").title == "My note"
    assert read_note("a.md", "# Print run of *Nodir Thikana*").title == "Print run of Nodir Thikana"
    assert read_note("2023-01-08 walk.md", "---\ndate: 2022-05-01\n---\nx").date == "2022-05-01"
    assert read_note("20230108.md", "x").date == "2023-01-08"
    assert read_note("2023-45-99.md", "x").date == ""
    assert read_note("Journal/walk.md", "x").daily and not read_note("Ideas/walk.md", "x").daily


@pytest.mark.parametrize("comment", ["%%\n{}\n%%", "<!--\n{}\n-->"])
def test_what_stands_in_a_comment_is_no_field_no_heading_and_no_part(comment):
    hidden = comment.format("# Rana\nquestion:: Does Rana know?\n## Hidden\n```\ncode\n```\n#reflection")
    note = read_note("a.md", f"one\n{hidden}\n`%%` two\n## Three\nend")
    assert note.title == "Three" and note.fields == {} and note.tags == {"reflection"}
    assert [heading for heading, *_ in sections(note.body)] == ["", "Three"]
    assert note.body.count("\n") == hidden.count("\n") + 4 and plain(note.body).startswith("one\n\n`%%` two")


def test_a_comment_that_is_never_closed_hides_the_rest_as_in_obsidian():
    assert plain(read_note("a.md", "one `%%` two\n\n%%\nnever shown").body) == "one `%%` two"


def test_thousands_of_tags_in_a_line_take_no_ages():
    began = time.process_time()
    assert plain("#a " * 50_000 + "x").endswith("a x") and plain("x" + " #a" * 50_000) == "x"
    assert time.process_time() - began < 10


def test_lines_are_counted_in_the_file_and_not_in_the_body():
    note = read_note("a.md", "---\ntags: x\n---\nfirst\n## Two\n```\n## no heading\n```\n## Three\nend")
    assert note.line == 4
    assert [(heading, number) for heading, _, number in sections(note.body)] == [("", 1), ("Two", 2), ("Three", 6)]


@pytest.mark.parametrize(
    "head",
    ["tags: [private", "tags: 'private", "a: b: c", "date: 2023-13-45\ntags: private", "\ttags: x", "tags private"],
)
def test_a_broken_frontmatter_is_an_error_and_no_note_without_tags(head):
    """Read as text, a note whose YAML is broken would lose its mark `private`."""
    with pytest.raises(FrontmatterError, match="YAML"):
        read_note("a.md", f"---\n{head}\n---\nbody")


def test_a_frontmatter_that_is_never_closed_hides_no_private_mark():
    with pytest.raises(FrontmatterError, match="never closed"):
        read_note("a.md", "---\ntags: [private]\nIt was a dark night")
    assert read_note("a.md", "---\nA rule, then text").body.startswith("---")


@given(st.text(max_size=400))
def test_no_text_makes_the_parser_fall_over(text):
    held_text, held = hold_code(text)
    assert put_back(held_text, held) == text.replace("\ufdd0", "").replace("\ufdd1", "")
    plain(text)
    text_tags(text)
    text_fields(text)
    sections(text)


@given(st.text(alphabet="abc আ১.,\n", max_size=200))
def test_prose_without_marks_comes_through_word_for_word(text):
    assert plain(text).split() == text.split()
