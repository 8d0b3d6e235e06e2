"""A decision once made is never lost, can always be taken back, and the next sitting goes on where this one ended."""

import json
import sqlite3
from pathlib import Path

import pytest

from lekhai_helpers.prepare.curation import Curation, CurationError
from lekhai_helpers.prepare.curation_widget import curation_widget
from lekhai_helpers.prepare.near_duplicates import Duplicates, Pair
from lekhai_helpers.prepare.sources import DatasetError


def write(path: Path, count: int = 4, masked: dict | None = None) -> Path:
    rows = [
        {
            "id": f"e{number}",
            "messages": [
                {"role": "user", "content": f"Question {number}?"},
                {"role": "assistant", "content": f"Answer {number}."},
            ],
            "source": {"path": f"Daily/{number}.md", "heading": ""},
            "kind": "lesson",
            "masked": masked,
        }
        for number in range(count)
    ]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def file(tmp_path):
    return write(tmp_path / "reflections.jsonl")


def names(examples) -> list[str]:
    return [example.id for example in examples]


def test_a_second_sitting_goes_on_where_the_first_one_ended(file):
    with Curation(file) as first:
        first.decide("e0", "approved")
        first.decide("e1", "skipped")
        first.decide("e2", "rejected")
    with Curation(file) as second:
        assert names(second.pending()) == ["e3", "e1"], "what was skipped comes after what was never seen"
        assert second.counts() == {"approved": 1, "rejected": 1, "skipped": 1, "open": 1}


def test_undo_takes_back_step_after_step_also_of_an_earlier_sitting(file):
    with Curation(file) as first:
        first.edit("e0", "Q", "A")
        first.decide("e0", "approved")
        first.decide("e1", "rejected")
    with Curation(file) as second:
        assert [second.undo().action for _ in range(3)] == ["rejected", "approved", "edited"]
        assert second.undo() is None
        assert second.counts()["open"] == 4 and second.states()["e0"].question == "Question 0?"
        second.decide("e1", "approved")
        assert second.undo().action == "approved", "an undo is not taken back itself"


def test_the_history_keeps_what_was_undone(file):
    with Curation(file) as curation:
        curation.decide("e0", "approved")
        curation.undo()
        curation.decide("e0", "rejected")
    with Curation(file) as again:
        assert [event.action for event in again.history()] == ["approved", "undo", "rejected"]
        assert all(event.at.endswith("+00:00") for event in again.history())


def test_the_last_decision_about_an_example_counts(file):
    with Curation(file) as curation:
        for decision in ("approved", "rejected", "approved"):
            curation.decide("e0", decision)
        assert curation.states()["e0"].status == "approved"
        assert [row["id"] for row in curation.approved()] == ["e0"], "once, however often it was decided"
        curation.undo()
        assert curation.states()["e0"].status == "rejected"


def test_the_export_has_the_edited_words_the_notes_and_where_it_came_from(file, tmp_path):
    with Curation(file) as curation:
        curation.edit("e1", "Better question?", "Better answer. আরও ভালো।")
        curation.note("e1", " keep an eye on it ")
        curation.decide("e1", "approved")
        curation.decide("e2", "rejected")
        curation.decide("e3", "approved")
        assert curation.export(tmp_path / "out" / "approved.jsonl") == 2
    rows = [json.loads(line) for line in (tmp_path / "out" / "approved.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["id"] for row in rows] == ["e1", "e3"]
    assert rows[0]["messages"][1]["content"] == "Better answer. আরও ভালো।" and rows[0]["edited"]
    assert rows[0]["notes"] == ["keep an eye on it"] and rows[0]["source"]["path"] == "Daily/1.md"
    assert not rows[1]["edited"] and rows[1]["notes"] == []
    assert "Better" not in file.read_text(encoding="utf-8"), "the file that is curated is never written into"


def test_an_export_loses_no_file(file, tmp_path):
    out = tmp_path / "approved.jsonl"
    with Curation(file) as curation:
        with pytest.raises(CurationError, match="nothing is approved"):
            curation.export(out)
        curation.decide("e0", "approved")
        with pytest.raises(CurationError, match="another name"):
            curation.export(file, replace=True)
        curation.export(out)
        curation.export(out)  # the same words again are no loss
        curation.decide("e1", "approved")
        with pytest.raises(CurationError, match="--replace"):
            curation.export(out)
        assert curation.export(out, replace=True) == 2
    assert not list(tmp_path.glob("*.writing"))


def test_an_export_never_takes_the_place_of_the_decisions_or_of_a_folder(file, tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00x")
    with Curation(file) as curation:
        curation.decide("e0", "approved")
        for out, replace, says in (
            (curation.database, True, "where decisions are kept"),
            (tmp_path, True, "is a folder"),
            (tmp_path / "binary", False, "--replace"),
        ):
            with pytest.raises(CurationError, match=says):
                curation.export(out, replace=replace)
    with Curation(file) as again:
        assert again.counts()["approved"] == 1
    assert (tmp_path / "binary").read_bytes() == b"\xff\xfe\x00x"


def test_an_export_follows_no_link_beside_it(file, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "out.jsonl.writing").symlink_to(victim)
    with Curation(file) as curation:
        curation.decide("e0", "approved")
        curation.export(tmp_path / "out.jsonl")
    assert victim.read_text() == "mine"


def test_two_sittings_at_once_see_each_others_decisions(file, tmp_path):
    with Curation(file) as first, Curation(file) as second:
        first.decide("e0", "approved")
        second.decide("e0", "rejected")
        second.decide("e1", "approved")
        assert first.states()["e0"].status == "rejected" and first.counts() == second.counts()
        assert first.export(tmp_path / "out.jsonl") == 1
        assert [first.undo().example, second.undo().example, first.undo().example] == ["e1", "e0", "e0"]
        assert second.undo() is None and second.counts()["open"] == 4
        assert [event.number for event in first.history()] == list(range(1, 7))


def test_a_step_that_another_sitting_takes_back_in_the_same_moment_is_an_error_in_words(file, monkeypatch):
    with Curation(file) as first, Curation(file) as second:
        first.decide("e0", "approved")
        known = second.history()
        first.undo()
        monkeypatch.setattr(second, "_events", lambda: known)
        with pytest.raises(CurationError, match="another sitting has just taken back"):
            second.undo()


def test_a_secret_typed_while_editing_is_masked_unless_masking_was_off(tmp_path):
    with Curation(write(tmp_path / "a.jsonl", masked={})) as curation:
        assert curation.edit("e0", "Q?", "Write to me@example.org") == 1
        assert curation.states()["e0"].answer == "Write to [mail address]"
        curation.note("e0", "ask me@example.org")
        assert curation.states()["e0"].notes == ("ask [mail address]",)
    with Curation(write(tmp_path / "b.jsonl", masked=None)) as curation:
        assert curation.edit("e0", "Q?", "Write to me@example.org") == 0
        curation.note("e0", "ask me@example.org")
        assert curation.states()["e0"].notes == ("ask me@example.org",)


def test_an_edit_that_changes_nothing_is_no_event_and_an_empty_one_is_refused(file):
    with Curation(file) as curation:
        curation.edit("e0", "Question 0?", "Answer 0.")
        curation.note("e0", "  ")
        assert curation.history() == []
        with pytest.raises(CurationError, match="both need words"):
            curation.edit("e0", "Q", "  ")
        with pytest.raises(CurationError, match="no example e9"):
            curation.decide("e9", "approved")


def test_rows_without_id_and_longer_conversations_can_be_curated_too(tmp_path):
    path = tmp_path / "a.jsonl"
    talk = [("system", "S"), ("user", "1"), ("assistant", "2"), ("user", "3"), ("assistant", "4")]
    row = {"messages": [{"role": role, "content": text} for role, text in talk]}
    path.write_text(json.dumps(row) + "\n")
    with Curation(path) as curation:
        (example,) = curation.examples
        curation.edit(example.id, "three", "four")
        curation.decide(example.id, "approved")
        (out,) = curation.approved()
    assert [message["content"] for message in out["messages"]] == ["S", "1", "2", "three", "four"]
    with Curation(path) as again:
        assert again.pending() == []


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "line 2 is no JSON"),
        ("[]", "line 2 holds no object"),
        ('{"text": "a"}', "line 2 has no messages"),
        ('{"messages": "hi"}', "line 2: messages must be a list"),
        ('{"messages": [{"role": "user", "content": "a"}]}', "line 2: the last two messages"),
        ('{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": " "}]}', "is empty"),
        ('{"messages": [{"role": "tool", "content": "a"}, {"role": "assistant", "content": "b"}]}', "must be a list"),
    ],
)
def test_a_broken_line_is_named_by_its_number(tmp_path, line, says):
    path = write(tmp_path / "a.jsonl", 1)
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(DatasetError, match=says):
        Curation(path)
    assert not list(tmp_path.glob("*.db"))


def test_the_same_id_twice_is_refused(tmp_path):
    path = write(tmp_path / "a.jsonl", 1)
    path.write_text(path.read_text() * 2)
    with pytest.raises(DatasetError, match="line 2: the same example stands there twice"):
        Curation(path)


def test_a_database_of_another_program_or_of_tomorrow_is_left_alone(file, tmp_path):
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as db:
        db.execute("CREATE TABLE mine (a)")
    with pytest.raises(CurationError, match="another program"):
        Curation(file, other)
    with Curation(file):
        pass
    own = file.with_suffix(".curation.db")
    with sqlite3.connect(own) as db:
        db.execute("PRAGMA user_version = 9")
    with pytest.raises(CurationError, match="newer LekhAI"):
        Curation(file)
    own.write_bytes(b"no database at all, but long enough to look like one" * 40)
    with pytest.raises(CurationError, match="--database"):
        Curation(file)
    with pytest.raises(CurationError, match="--database"):
        Curation(file, tmp_path / "nowhere" / "a.db")


def test_a_sitting_that_is_killed_keeps_every_decision_before_it(file):
    curation = Curation(file)
    curation.decide("e0", "approved")
    del curation  # never closed
    with Curation(file) as again:
        assert again.counts()["approved"] == 1


def press(box, name: str) -> None:
    buttons = next(child for child in box.children if hasattr(child, "children"))
    next(button for button in buttons.children if button.description == name).click()


def test_the_form_does_what_the_terminal_does(file):
    with Curation(file) as curation:
        duplicates = Duplicates("compared by letters", [Pair(0, 2, 0.8)])
        box = curation_widget(curation, duplicates)
        progress, question, answer, note, _, said, beside = box.children
        assert question.value == "Question 0?" and "Daily/0.md" in progress.value
        assert "80% alike" in beside.value and "Answer 2." in beside.value and "by letters" in beside.value
        answer.value, note.value = "My own <b>words</b>.", "good"
        press(box, "Approve")
        assert curation.states()["e0"].answer == "My own <b>words</b>." and curation.states()["e0"].notes == ("good",)
        assert question.value == "Question 1?" and beside.value == "" and note.value == ""
        press(box, "Skip")
        press(box, "Reject")
        assert "&lt;b&gt;" not in beside.value and question.value == "Question 3?"
        press(box, "Undo")
        assert question.value == "Question 2?" and "rejected" in said.value
        assert "My own &lt;b&gt;words" in beside.value, "what was written is shown and never run"
        answer.value = " "
        press(box, "Approve")
        assert "both need words" in said.value and curation.states()["e2"].status == "open"
        answer.value = "Answer 2."
        press(box, "Approve")
        press(box, "Approve")
        assert "Nothing is left" in progress.value and curation.counts()["skipped"] == 1
