"""People's marks: the writer stays hidden, nothing is lost, and a second sitting goes on."""

import pytest

from lekhai_helpers.measure.labels import label_in_terminal, label_widget, open_tasks

CRITERIA = {"fluency": "1 broken, 10 natural", "tone": "1 wrong, 10 right"}
RESPONSES = [
    {"stage": stage, "brief_id": f"b{n}", "seed": 1, "prompt": f"brief {n}", "text": f"{n} <b>script</b>"}
    for stage in ("base", "sft", "dpo")
    for n in range(10)
]


class Person:
    """Types the given answers, sees what is told, and keeps what is saved."""

    def __init__(self, *answers):
        self.answers, self.seen, self.saved = list(answers), [], []

    def ask(self, question):
        if not self.answers:
            raise EOFError
        return self.answers.pop(0)

    def sit(self, tasks):
        return label_in_terminal(tasks, CRITERIA, "rima", self.saved.extend, ask=self.ask, tell=self.seen.append)


def test_the_texts_come_evenly_from_all_stages_and_in_no_telling_order():
    tasks = open_tasks(RESPONSES, [], "rima", n=12)
    assert [sum(task.stage == stage for task in tasks) for stage in ("base", "sft", "dpo")] == [4, 4, 4]
    assert tasks == open_tasks(RESPONSES, [], "rima", n=12) != open_tasks(RESPONSES, [], "karim", n=12)
    assert [task.stage for task in tasks] != sorted(task.stage for task in tasks)


def test_who_wrote_a_text_is_never_shown():
    person = Person("7", "8", "9", "10")
    person.sit(open_tasks(RESPONSES, [], "rima", n=2))
    assert not any(stage in line for line in person.seen for stage in ("base", "sft", "dpo"))


def test_marks_are_saved_text_by_text_and_the_end_of_input_stops():
    tasks = open_tasks(RESPONSES, [], "rima", n=3)
    person = Person("7", "8", "9")  # the second text is left half done
    assert person.sit(tasks) == 1
    assert [(mark["criterion"], mark["score"], mark["rater"]) for mark in person.saved] == [
        ("fluency", 7, "rima"),
        ("tone", 8, "rima"),
    ]


def test_a_second_sitting_goes_on_with_what_is_left():
    person = Person("7", "8", "q")
    person.sit(open_tasks(RESPONSES, [], "rima", n=5))
    left = open_tasks(RESPONSES, person.saved, "rima", n=5)
    assert left == open_tasks(RESPONSES, [], "rima", n=5)[1:]
    assert len(open_tasks(RESPONSES, person.saved, "karim", n=5)) == 5


def test_a_wrong_mark_is_asked_again_and_a_bengali_digit_is_one():
    person = Person("0", "eleven", "11", "²", "৭", "8", "s", "q")
    assert person.sit(open_tasks(RESPONSES, [], "rima", n=3)) == 1
    assert [mark["score"] for mark in person.saved] == [7, 8]
    assert sum("no whole number from 1 to 10" in line for line in person.seen) == 4


def test_marks_need_a_name():
    with pytest.raises(ValueError, match="name"):
        open_tasks(RESPONSES, [], " ")


def test_the_panel_saves_skips_and_ends():
    saved = []
    panel = label_widget(open_tasks(RESPONSES, [], "rima", n=2), CRITERIA, "rima", saved.append)
    _, page, fluency, tone, buttons = panel.children
    save, skip = buttons.children
    assert "&lt;b&gt;script" in page.value and "1 of 2" in page.value
    fluency.value, tone.value = 9, 3
    save.click()
    assert [(mark["criterion"], mark["score"]) for mark in saved[0]] == [("fluency", 9), ("tone", 3)]
    assert fluency.value == 5 and "2 of 2" in page.value
    skip.click()
    assert len(saved) == 1 and save.disabled and "No text is left" in page.value


def test_marks_go_into_the_ledger_and_come_back(tmp_path):
    from lekhai_helpers.core.ledger import Ledger

    facts = {"industry": "চা", "tone": "শান্ত", "ok": True, "problems": [], "facts": {}}
    facts |= {"tokens": 9, "seconds": 1.0, "stopped": True}
    with Ledger(tmp_path / "l.db", experiment="e", recipe="r", profile="p", settings="{}") as ledger:
        ledger.add_responses("sft", [row | facts for row in RESPONSES if row["stage"] == "sft"])
        tasks = open_tasks(ledger.responses(), ledger.labels(), "rima", n=3)
        person = Person("7", "8", "q")
        label_in_terminal(tasks, CRITERIA, "rima", ledger.add_labels, ask=person.ask, tell=person.seen.append)
        assert open_tasks(ledger.responses(), ledger.labels(), "rima", n=3) == tasks[1:]
