"""The source of the companion: conversations as rows, the parts of one note in one thread."""

import json

import pytest

from lekhai_helpers.core.recipe import data_folder
from lekhai_helpers.prepare.briefs import load_briefs
from lekhai_helpers.prepare.contracts import get_contract
from lekhai_helpers.prepare.curation import Curation
from lekhai_helpers.prepare.sources import DatasetError
from lekhai_helpers.prepare.sources.reflections_jsonl import rows
from lekhai_helpers.prepare.vault import extract


def line(*talk: tuple[str, str], **more) -> str:
    return json.dumps({"messages": [{"role": role, "content": text} for role, text in talk]} | more) + "\n"


def test_a_row_has_question_answer_kind_and_thread(tmp_path):
    path = tmp_path / "a.jsonl"
    source = {"path": "Daily/1.md", "heading": "Evening"}
    path.write_text(
        line(("user", "Q?"), ("assistant", "A."), id="x", kind="lesson", source=source)
        + line(("system", "Be kind."), ("user", "1"), ("assistant", "2"), ("user", "3"), ("assistant", "4"))
    )
    first, second = rows(path)
    assert first.number == 2 and second.number == 3
    assert (first.cells["id"], first.cells["thread"], first.cells["industry"]) == ("x", "Daily/1.md", "lesson")
    assert (first.cells["prompt_1"], first.cells["script"], first.cells["messages"]) == ("Q?", "A.", "")
    assert second.cells["system_prompt"] == "Be kind." and second.cells["thread"] == second.cells["id"]
    said = [message["content"] for message in json.loads(second.cells["messages"])]
    assert said == ["1", "2", "3", "4"], "the system's words stand in their own column"


@pytest.mark.parametrize("source", ["obsidian", 3, ["a"], {"path": 3}, {}])
def test_where_other_programs_took_a_row_from_is_theirs_to_write(tmp_path, source):
    path = tmp_path / "a.jsonl"
    path.write_text(line(("user", "Q?"), ("assistant", "A."), id="x", source=source))
    assert [row.cells["thread"] for row in rows(path)] == ["x"]


def test_a_broken_line_is_named_by_its_number(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(line(("user", "Q?"), ("assistant", "A.")) + line(("assistant", "A."), ("user", "Q?")))
    with pytest.raises(DatasetError, match="line 2: the last two"):
        list(rows(path))
    path.write_bytes(b"\x89PNG\0\0")
    with pytest.raises(DatasetError, match="binary"):
        list(rows(path))


def test_what_ships_was_extracted_from_our_vault_and_keeps_the_contract():
    """Fifty to a hundred curated rows, each one the words of a note of the vault, none of them a private one."""
    found = list(rows(data_folder() / "companion" / "approved.jsonl"))
    assert 50 <= len(found) <= 100
    extracted = {one.id: one.messages for one in extract(data_folder() / "companion" / "vault")}
    contract = get_contract("persona")
    for row in found:
        question, answer = (message["content"] for message in extracted[row.cells["id"]])
        assert (row.cells["prompt_1"], row.cells["script"]) == (question, answer)
        assert contract(answer).ok, (row.cells["thread"], contract(answer).problems)


def test_what_ships_can_be_curated_again(tmp_path):
    with Curation(data_folder() / "companion" / "approved.jsonl", tmp_path / "a.db") as curation:
        assert len(curation.pending()) == len(curation.examples)


def test_scenarios_to_try_a_model_on_have_a_prompt_and_no_answer(tmp_path):
    """They were once read as reflections, and the chain stopped in notebook 03 for want of messages."""
    path = tmp_path / "scenarios.jsonl"
    path.write_text('{"id": "d-1", "kind": "decision", "prompt": "Would you buy it?", "part": "heldout"}\n')
    (brief,) = load_briefs(path, part="heldout", source="reflections_jsonl")
    assert (brief.id, brief.industry, brief.prompt) == ("d-1", "decision", "Would you buy it?")
    path.write_text('{"id": "d-1", "kind": "decision"}\n')
    with pytest.raises(DatasetError, match="line 1 asks nothing"):
        load_briefs(path, source="reflections_jsonl")
