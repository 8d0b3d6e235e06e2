"""A vault is read and never written, and what comes out of it is what a person would have taken."""

import hashlib
import json
import os
import re
import time
import tracemalloc
from pathlib import Path

import pytest

from lekhai_helpers.core.recipe import data_folder
from lekhai_helpers.measure.evaluation import wilson
from lekhai_helpers.prepare.vault import LARGEST, Tally, VaultError, extract, write_reflections
from lekhai_helpers.prepare.vault_dialogue import dialogue
from lekhai_helpers.prepare.vault_markdown import read_note
from lekhai_helpers.prepare.vault_select import choose, entries

THOUGHT = (
    "I had always thought that I was a friendly person who happened to be busy. On the stairs I learned that I am a "
    "polite person who likes her door shut. Should I mind? On the one hand it is quiet; on the other hand nobody "
    "knocks. From now on I leave the door open for an hour."
)
RECORD = "- [x] putty, left side\n- [ ] umbrella: mend, do not buy\n- [x] rice into the steel drum\n" * 8


def note(folder: Path, name: str, text: str = THOUGHT) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def taken(folder: Path, tally: Tally | None = None, **settings) -> list[str]:
    return [found.source["path"] for found in extract(folder, tally, **settings)]


def fingerprint(folder: Path) -> dict[str, tuple]:
    files = (path for path in folder.rglob("*") if not path.is_dir())
    return {str(path): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files}


def ours() -> Path:
    return data_folder() / "companion"


def test_our_vault_gives_a_hundred_reflections_and_few_false_ones():
    """Measured on the vault the cues were written beside, so the figures flatter; the bounds are Wilson's 95%."""
    rows = [json.loads(line) for line in (ours() / "notes.jsonl").read_text(encoding="utf-8").splitlines()]
    wanted = {row["path"] for row in rows if row["reflection"] and not row["private"]}
    found = taken(ours() / "vault")
    assert len(found) == len(set(found)) >= 100
    right = len(wanted & set(found))
    assert wilson(right, len(found))[0] > 0.9, "precision"
    assert wilson(right, len(wanted))[0] > 0.85, "recall"
    unmarked = {row["path"] for row in rows if row["path"] in wanted and not row["marked"]}
    assert len(unmarked & set(found)) / len(unmarked) > 0.7, "recall where nothing is marked"


def test_every_secret_of_our_vault_is_masked_where_its_note_is_taken():
    tally = Tally()
    texts = [found.line() for found in extract(ours() / "vault", tally)]
    assert tally.masked == {"mail": 2, "key": 1}
    assert not any(word in text for text in texts for word in ("example.org.", "katakuti@", "+1-902", "sk-"))
    kept = [found for found in extract(ours() / "vault", keep_secrets=True)]
    assert all(found.masked is None for found in kept)
    assert any("katakuti@example.org" in found.messages[1]["content"] for found in kept)


def test_tags_paths_and_the_names_of_skipped_files_are_masked_like_the_text(tmp_path):
    head = "---\ntags: ['+8801712345678', reflection]\n---\n"
    note(tmp_path, "01712345678/me@example.org.md", f"{head}{THOUGHT} #call/01712345678 #call-01812345678")
    (tmp_path / "ring 01712-345678.md").write_bytes(b"\0")
    tally = Tally()
    (found,) = extract(tmp_path, tally)
    assert not re.search(r"\d{6}|@", found.line().replace(found.id, "").replace(found.source["sha256"], ""))
    assert [path for path, _ in tally.skipped] == ["ring [phone number].md"]
    (found,) = extract(tmp_path, keep_secrets=True)
    assert "call/01712345678" in found.tags


def test_every_reflection_says_where_it_came_from_and_has_an_id_of_its_own():
    found = list(extract(ours() / "vault"))
    assert len({one.id for one in found}) == len(found)
    for one in found:
        raw = (ours() / "vault" / one.source["path"]).read_bytes()
        assert one.source["sha256"] == hashlib.sha256(raw).hexdigest()
        assert [message["role"] for message in one.messages] == ["user", "assistant"]
        assert all(message["content"].strip() for message in one.messages)
        assert one.reasons and one.kind in ("decision", "lesson", "reflection")
        assert "::" not in one.messages[1]["content"] and "[[" not in one.messages[1]["content"]
    assert {one.language for one in found} == {"en", "bn"}


def test_nothing_in_the_vault_changes_not_even_a_time(tmp_path):
    note(tmp_path / "v", "Daily/2024-01-01.md")
    note(tmp_path / "v", ".obsidian/app.json", "{}")
    before = fingerprint(tmp_path / "v")
    write_reflections(extract(tmp_path / "v"), tmp_path / "out.jsonl", tmp_path / "v")
    assert fingerprint(tmp_path / "v") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "v"]


def test_a_vault_that_may_only_be_read_is_enough(tmp_path):
    vault = tmp_path / "v"
    note(vault, "a.md")
    for path in (vault / "a.md", vault):
        path.chmod(0o500 if path.is_dir() else 0o400)
    assert taken(vault) == ["a.md"]
    vault.chmod(0o700)


@pytest.mark.parametrize("out", ["v/out.jsonl", "v/.obsidian/out.jsonl", "v/../v/out.jsonl", "link/out.jsonl"])
def test_an_output_inside_the_vault_is_refused_by_whatever_way(tmp_path, out):
    note(tmp_path / "v", "a.md")
    (tmp_path / "link").symlink_to(tmp_path / "v")
    before = fingerprint(tmp_path / "v")
    with pytest.raises(VaultError, match="lies in the vault.*--out"):
        write_reflections(extract(tmp_path / "v"), tmp_path / out, tmp_path / "v")
    assert fingerprint(tmp_path / "v") == before


def test_a_file_that_is_there_is_not_written_over_unasked(tmp_path):
    note(tmp_path / "v", "a.md")
    out = note(tmp_path, "out.jsonl", "mine")
    with pytest.raises(VaultError, match="--replace"):
        write_reflections(extract(tmp_path / "v"), out, tmp_path / "v")
    assert out.read_text() == "mine"
    assert write_reflections(extract(tmp_path / "v"), out, tmp_path / "v", replace=True) == 1


def test_an_extraction_that_finds_nothing_leaves_the_old_file_and_no_half_one(tmp_path):
    note(tmp_path / "v", "a.md", RECORD)
    out = note(tmp_path, "out.jsonl", "mine")
    with pytest.raises(VaultError, match="#reflection.*--tag"):
        write_reflections(extract(tmp_path / "v"), out, tmp_path / "v", replace=True)
    assert out.read_text() == "mine" and not list(tmp_path.glob("*.writing"))


def test_links_out_of_the_vault_are_not_followed(tmp_path):
    """A symbolic link is how a vault reaches the rest of a disk; a wikilink or an embed only names a place."""
    note(tmp_path, "outside/secret.md", THOUGHT + " OUTSIDE #reflection")
    vault = tmp_path / "v"
    note(vault, "a.md", THOUGHT + " ![[../outside/secret]] [[../outside/secret|there]] ![x](../outside/secret.md)")
    (vault / "b.md").symlink_to(tmp_path / "outside/secret.md")
    (vault / "folder").symlink_to(tmp_path / "outside")
    (vault / "gone.md").symlink_to(tmp_path / "nowhere.md")
    (vault / "loop").symlink_to(vault)
    tally = Tally()
    found = list(extract(vault, tally))
    assert [one.source["path"] for one in found] == ["a.md"]
    assert "OUTSIDE" not in json.dumps(found[0].messages)
    assert sorted(path for path, _ in tally.skipped) == ["b.md", "gone.md"]


def test_hidden_folders_and_other_files_are_left_alone(tmp_path):
    for name in (".obsidian/a.md", ".trash/b.md", ".git/c.md", "x/.hidden/d.md", ".e.md", "f.txt", "g.canvas"):
        note(tmp_path, name)
    note(tmp_path, "x/H.MD")
    assert taken(tmp_path) == ["x/H.MD"]


@pytest.mark.parametrize(
    "text",
    [
        f"---\ntags: [private, reflection]\n---\n{THOUGHT}",
        f"---\ntags: Private\n---\n{THOUGHT}",
        f"---\nprivate: true\n---\n{THOUGHT}",
        f"{THOUGHT} #private",
        f"{THOUGHT} #PRIVATE/family",
        f"# Title\n#private #reflection\n\n{THOUGHT}",
        f"---\ntags: [private\n---\n{THOUGHT}",
        f"---\ntags: [private]\n\n{THOUGHT}",
        f"%% #private %%\n{THOUGHT}",
        f"\ufeff---\ntags: private\n---\n{THOUGHT}",
        f"---\r\ntags: private\r\n---\r\n{THOUGHT}",
        f"---\rtags: [private]\r---\r{THOUGHT}",
        f"--- \ntags: [private]\n---\n{THOUGHT}",
        f"\n---\ntags: [private]\n---\n{THOUGHT}",
        *(
            f"---\n{head}\n---\n{THOUGHT}"
            for head in (
                *("Private: true", "private: 'true'", "private: 1", "private: yes", "tags private", "TAGS: PRIVATE"),
                *("tags: [[private]]", "tags: '[[private]]'", "tags: work;private", "tags: {private: true}"),
                *("tags:\n  - [private]", "tags: #private", "tags: [journal/private]", "tags: [\u200bprivate]"),
                "tags: &all [*all, private]",
            )
        ),
        *(
            f"{mark} {THOUGHT}"
            for mark in (
                *("#me/private", "**#private**", "*#private*", '"#private"', "[#private]", "tags:#private"),
                *("#work/#private", "_#private_", "<b>#private</b>", "<!-- #private -->"),
            )
        ),
    ],
)
def test_a_private_note_never_comes_out_however_it_is_marked(tmp_path, text):
    note(tmp_path, "b.md")
    (tmp_path / "a.md").write_text(text, encoding="utf-8", newline="")
    assert taken(tmp_path) == ["b.md"]


@pytest.mark.parametrize(
    "text", ["#privateer", "https://example.org/a#private", "[[a#private]]", "`#private`", "---\nprivate: no\n---\n"]
)
def test_a_note_that_only_holds_the_word_is_not_private(tmp_path, text):
    note(tmp_path, "a.md", f"{text} {THOUGHT}")
    assert taken(tmp_path) == ["a.md"]


def test_a_private_tag_may_be_typed_in_another_spelling_of_unicode(tmp_path):
    note(tmp_path, "a.md", f"{THOUGHT} #প্রি\u09df")
    note(tmp_path, "b.md")
    assert taken(tmp_path, private=("#প্রি\u09df",)) == ["b.md"]


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("Daily/2023-02-31.md", ""),
        ("Meeting 20230230.md", ""),
        ("0000-01-01.md", ""),
        ("Daily/a.md", "---\ndate: '2023-02-30 10:00'\n---\n"),
    ],
)
def test_a_day_that_does_not_exist_is_no_day_and_stops_nothing(tmp_path, name, head):
    note(tmp_path, name, head + THOUGHT)
    (found,) = extract(tmp_path)
    assert found.date == ""


def test_a_tag_of_ones_own_can_keep_notes_out_or_take_them_in(tmp_path):
    note(tmp_path, "a.md", THOUGHT + " #diary/secret")
    note(
        tmp_path, "b.md", "The tar could be heard through the window and the girls all listened to it. " * 4 + "#musing"
    )
    assert taken(tmp_path) == ["a.md"]
    assert taken(tmp_path, private=("private", "diary/secret"), marks=("musing",)) == ["b.md"]
    assert taken(tmp_path, marked_only=True) == []


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + b"\0" * 50, "not text: it holds zero bytes"),
        ("\ufeff".encode("utf-16-le") + THOUGHT.encode("utf-16-le"), "not text: it holds zero bytes"),
        (THOUGHT.encode() + b" caf\xe9", "not in UTF-8"),
        (b"---\na: [\n---\n" + THOUGHT.encode(), "no valid YAML.*might be private"),
        (b"x" * (LARGEST + 1), "larger than 1 MB"),
    ],
)
def test_a_note_that_cannot_be_read_is_named_and_the_others_go_on(tmp_path, data, reason):
    (tmp_path / "a.md").write_bytes(data)
    note(tmp_path, "b.md")
    tally = Tally()
    assert taken(tmp_path, tally) == ["b.md"]
    ((path, said),) = tally.skipped
    assert path == "a.md" and re.search(reason, said)


def test_a_note_without_the_right_to_read_is_named(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    note(tmp_path, "a.md").chmod(0)
    note(tmp_path, "b.md")
    tally = Tally()
    assert taken(tmp_path, tally) == ["b.md"] and "cannot be read" in tally.skipped[0][1]


def test_a_vault_of_which_nothing_can_be_read_says_why(tmp_path):
    (tmp_path / "v").mkdir()
    (tmp_path / "v/a.md").write_bytes(b"\0")
    with pytest.raises(VaultError, match=r"no note of v could be read, 1 skipped; a\.md: not text"):
        write_reflections(extract(tmp_path / "v"), tmp_path / "out.jsonl", tmp_path / "v")
    assert [path.name for path in tmp_path.iterdir()] == ["v"]


def test_what_lies_beside_the_output_is_neither_followed_nor_removed(tmp_path):
    """A name that can be guessed may be a link into the vault, or a file of somebody's own."""
    victim = note(tmp_path / "v", "victim.txt", "mine")
    note(tmp_path / "v", "a.md")
    (tmp_path / "y.jsonl.writing").symlink_to(victim)
    own = note(tmp_path, "z.jsonl.writing", "my own")
    for name in ("y.jsonl", "z.jsonl"):
        assert write_reflections(extract(tmp_path / "v"), tmp_path / name, tmp_path / "v") == 1
    assert victim.read_text() == "mine" and own.read_text() == "my own"
    assert not (tmp_path / "y.jsonl").is_symlink()


def test_a_folder_is_no_output(tmp_path):
    note(tmp_path / "v", "a.md")
    (tmp_path / "out").mkdir()
    with pytest.raises(VaultError, match="is a folder: give the name of a file"):
        write_reflections(extract(tmp_path / "v"), tmp_path / "out", tmp_path / "v", replace=True)


def test_an_empty_folder_a_file_and_no_folder_are_errors_with_a_remedy(tmp_path):
    (tmp_path / "v/.obsidian").mkdir(parents=True)
    with pytest.raises(VaultError, match="holds no note.*Obsidian opens"):
        taken(tmp_path / "v")
    with pytest.raises(VaultError, match="is a file"):
        taken(note(tmp_path, "a.md"))
    with pytest.raises(VaultError, match="no folder"):
        taken(tmp_path / "nowhere")


def test_ten_thousand_notes_take_no_more_memory_than_a_thousand(tmp_path):
    """A vault read whole into a list would take ten times as much; what may grow are the names of one folder."""

    def peak(count: int) -> int:
        vault = tmp_path / str(count)
        vault.mkdir()
        for number in range(count):
            (vault / f"{number:05}.md").write_text(f"{'I learned to wait. ' * 8}{number} #reflection", encoding="utf-8")
        tracemalloc.start()
        written = write_reflections(extract(vault), tmp_path / f"{count}.jsonl", vault)
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert written == count
        return highest

    peak(10)  # what is imported and compiled once is not counted
    small, large = peak(1000), peak(10_000)
    assert large < small + 4_000_000, f"{small / 1e6:.1f} MB for 1000 notes, {large / 1e6:.1f} MB for 10000"


def test_a_marked_part_of_a_diary_page_does_not_bring_in_the_others():
    page = f"# Monday\n\n## Tasks\n{RECORD}\n## Evening\n{THOUGHT} #reflection\n## Spent\n- tea 20\n"
    found = read_note("Daily/2024-01-01.md", page)
    choices = [(entry.heading, choose(found, entry).taken) for entry in entries(found)]
    assert choices == [("", False), ("Tasks", False), ("Evening", True), ("Spent", False)]
    whole = read_note("Ideas/a.md", page)
    assert [entry.heading for entry in entries(whole)] == [""]


def test_a_mark_of_ones_own_divides_a_diary_page_as_ours_do():
    page = f"## Shopping\n{'bread and milk and tea for the week ' * 4}\n## Thought\n#musing {THOUGHT}\n"
    found = read_note("Daily/2024-01-01.md", page)
    assert [entry.heading for entry in entries(found, ("musing",))] == ["Shopping", "Thought"]
    assert [entry.heading for entry in entries(found)] == [""]


def test_a_list_a_text_of_others_and_a_bare_report_are_no_reflections():
    others = "He had always thought that he was right. In the end they learned that the river had turned. " * 4
    report = "We went to the market and bought fish. I cooked it at noon. Then my sister came and we ate. " * 4
    for text in (RECORD, others, report, "I learned a lot."):
        found = read_note("a.md", text)
        assert not choose(found, next(entries(found))).taken, text


def test_curly_apostrophes_of_a_phone_are_read_like_straight_ones():
    found = read_note("a.md", "I’ve learned to wait. " + "The bus came late and I stood in the rain. " * 6)
    assert choose(found, next(entries(found))).taken


def asked(path: str, text: str) -> tuple[str, str]:
    found = read_note(path, text)
    entry = next(entries(found))
    return dialogue(found, entry, choose(found, entry).kind or "reflection")


def test_a_line_of_thousands_of_words_takes_no_ages():
    """A search for the end of a sentence from every word on takes the square of the line."""
    began = time.process_time()
    for line in ("word " * 40_000, "This is a sentence of mine. " * 7_000):
        asked("Daily/2023-01-08.md", line)
    assert time.process_time() - began < 10


def test_the_question_is_the_notes_own_its_title_or_its_first_sentence():
    body = THOUGHT.removeprefix("I had")
    question, answer = asked("a.md", f"# T\nquestion:: Do I go?\n\n{THOUGHT}")
    assert question == "Do I go?" and answer == THOUGHT
    question, answer = asked("a.md", f"# Pay the new rent, or move?\n\n{THOUGHT} #decision")
    assert question.startswith("Pay the new rent, or move? How") and answer == THOUGHT
    question, answer = asked("Daily/2023-01-08.md", f"# Sunday\n\nI had{body} #learning")
    assert question.startswith("On 8 January 2023 you wrote: “I had always thought") and "learn" in question
    assert answer.startswith("On the stairs")
    question, _ = asked("Daily/walk.md", f"# Sunday\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n{THOUGHT}")
    assert question.startswith("Sunday: ")


def test_a_bengali_note_is_asked_in_bengali():
    text = "সকালে ছাদে উঠে দেখি পাঁচতলার ছেলেটা বাঁশের মাথায় পতাকা বাঁধছে। আমি বেঁধে দিলাম। তখন বুঝলাম কাজটা আমারও। " * 3
    question, answer = asked("Daily/2022-12-16.md", text + "#learning")
    assert question.startswith("১৬ ডিসেম্বর ২০২২ তুমি লিখেছিলে: “সকালে") and "শিখলে" in question
    assert answer.startswith("আমি বেঁধে দিলাম")
