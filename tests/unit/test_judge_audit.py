"""The audit finds exactly the fault a judge has: each stub judge here has one, and the last has none."""

import random

import pytest

from lekhai_helpers.core.recipe import data_file
from lekhai_helpers.measure import audit_figures as figures
from lekhai_helpers.measure.evaluation import wilson
from lekhai_helpers.measure.judge import Score
from lekhai_helpers.measure.judge_audit import AuditError, audit, leading, load_pairs
from lekhai_helpers.measure.judge_pairs import some

CRITERIA = {name: "1 bad, 10 good" for name in ("fluency", "structure", "tone", "adherence", "idea")}
PAIRS = load_pairs(data_file("judge_audit.csv"))
BETTER = {pair.better for pair in PAIRS}
DEFECT = {pair.worse: pair.defect for pair in PAIRS}


class Stub:
    """A judge made of two functions: one gives a mark to a text, one chooses between two."""

    measures, identity = None, ""

    def __init__(self, mark, choose=None, family="", name="stub"):
        self.mark, self.name, self.family = mark, name, family
        self.choose = choose or self._by_mark

    def _by_mark(self, first, second):
        one, other = self.mark(first), self.mark(second)
        return "tie" if one == other else ("first" if one > other else "second")

    def grade(self, text, brief, criteria):
        return [Score(name, "scored", float(self.mark(text)), "because") for name in criteria]

    def compare(self, first, second, brief):
        return self.choose(first, second)


def varied(text):
    """Good scripts get 7 to 9, faulty ones 3 to 5, whatever their length."""
    return (7 if text in BETTER else 3) + sum(map(ord, text)) % 3


def judged(judge, pairs=PAIRS, **options):
    return audit(judge, pairs, CRITERIA, **options)


def test_a_perfect_judge_passes_and_every_defect_is_counted():
    found = judged(Stub(varied))
    assert found.passed and found.problems == [] and found.warnings == []
    assert found.sentence.startswith("stub passed its audit: it finds the better side by score in 100% of 60")
    table = found.table()
    assert list(table.index) == [*dict.fromkeys(pair.defect for pair in PAIRS), "all"]
    assert list(table["pairs"]) == [10] * 6 + [60]
    assert table.loc["all", "by score"] == table.loc["all", "by choice"] == 1
    assert table.loc["wrong_tone", "score low"] == pytest.approx(0.722, abs=1e-3)  # Wilson, 10 of 10


def test_a_judge_that_always_takes_the_first_is_found_out():
    found = judged(Stub(varied, lambda one, other: "first"))
    assert not found.passed
    assert "60 of 60 choices change when the two texts are swapped" in found.sentence
    assert figures.flip_rate(found.answers) == (60, 60)
    assert figures.first_named(found.answers) == (120, 120)
    assert figures.by_choice(found.answers).share == 0.5  # all ties: each counts half


def test_a_judge_that_likes_length_is_found_out():
    """It is right about every film that was cut short, so its accuracy alone would not tell."""
    found = judged(
        Stub(lambda text: min(10, max(1, len(text) // 150)), lambda a, b: "first" if len(a) > len(b) else "second")
    )
    wins, right, pairs = figures.longer_wins(found.answers)
    assert wins == pairs > right
    correlation, n = figures.length_correlation(found.answers)
    assert correlation > 0.9 and n == 60
    assert not found.passed
    assert any("scores longer scripts higher" in warning for warning in found.warnings)
    assert any(f"chooses the longer side in {wins} of {pairs} pairs" in warning for warning in found.warnings)


def test_a_judge_that_gives_everything_a_seven_is_found_out():
    found = judged(Stub(lambda text: 7))
    assert not found.passed
    assert "only 1 different score(s)" in found.sentence and "guessing finds half" in found.sentence
    assert "100% of its scores are 7" in found.warnings
    accuracy = figures.by_score(found.answers)
    assert (accuracy.share, accuracy.ties, accuracy.right) == (0.5, 60, 0)
    assert figures.length_correlation(found.answers) == (None, 60)


def test_a_judge_that_throws_dice_is_found_out():
    dice = random.Random(1)
    found = judged(Stub(lambda text: dice.randint(1, 10), lambda a, b: dice.choice(["first", "second"])))
    assert not found.passed
    assert "not to be trusted here" in found.sentence
    assert 0.3 < figures.by_score(found.answers).share < 0.7
    assert figures.flip_rate(found.answers)[0] > 18


def test_a_judge_that_is_always_wrong_is_found_out():
    found = judged(Stub(lambda text: 11 - varied(text)))
    assert figures.by_score(found.answers).share == 0 and not found.passed


def test_a_judge_blind_to_one_defect_passes_and_is_told_to_be_blind():
    def blind(text):
        return 8 if DEFECT.get(text) == "dull_copy" or text in BETTER else 2 + len(text) % 3

    found = judged(Stub(blind))
    assert found.passed
    assert found.unseen == ["dull_copy (50% of 10 (39% to 61%))"]
    assert any("not shown to notice dull_copy" in warning for warning in found.warnings)
    assert found.passed and found.sentence.endswith("; it was not shown to notice dull_copy")


def test_the_mark_of_the_criterion_that_should_see_the_defect_is_shown_by_itself():
    class OnlyTone(Stub):
        def grade(self, text, brief, criteria):
            low = DEFECT.get(text) == "wrong_tone"
            return [Score(name, "scored", 2.0 if low and name == "tone" else 8.0, "") for name in criteria]

    table = judged(OnlyTone(varied)).table()
    assert table.loc["wrong_tone", "criterion"] == "tone"
    assert table.loc["wrong_tone", "by that criterion"] == 1
    assert table.loc["no_brand", "by that criterion"] == 0.5


def test_a_judge_of_the_writers_own_family_is_warned_of():
    assert judged(Stub(varied, family="google"), writer_family="google").warnings == [
        "judge and writer are of one family (google), and judges favour their own"
    ]
    assert judged(Stub(varied, family="openai"), writer_family="google").warnings == []
    assert judged(Stub(varied, family=""), writer_family="").warnings == []


def test_a_judge_that_answers_too_little_is_not_trusted_and_the_reason_is_told():
    class Down(Stub):
        def grade(self, text, brief, criteria):
            if brief.id > "audit-20":
                return [Score(name, "failed", None, "not asked: the budget is used up") for name in criteria]
            return super().grade(text, brief, criteria)

        def compare(self, first, second, brief):
            return "failed" if brief.id > "audit-20" else super().compare(first, second, brief)

    found = judged(Down(varied))
    assert "graded both sides of only 20 of 60 pairs (not asked: the budget is used up)" in found.sentence
    states = figures.states(found.answers)
    assert states["scores"] == {"scored": 200, "failed": 400} and states["pairs"] == {"scored": 20, "failed": 40}


def test_a_judge_that_answers_nothing_has_figures_without_numbers():
    class Silent(Stub):
        def grade(self, text, brief, criteria):
            return [Score(name, "unparsable", None, "prose") for name in criteria]

    found = judged(Silent(varied, lambda a, b: "unparsable"))
    assert not found.passed and "only 0 of 60" in found.sentence
    assert found.table().loc["all", "by score"] is None or found.table()["by score"].isna().all()
    assert {row["metric"]: row["value"] for row in found.rows()}["flip rate"] is None


def test_a_criterion_that_a_judge_never_scores_is_named_and_left_out_of_the_mean():
    class NoIdeas(Stub):
        def grade(self, text, brief, criteria):
            scores = super().grade(text, brief, criteria)
            return [*scores[:-1], Score("idea", "failed", None, "this judge has no measure of ideas")]

    found = judged(NoIdeas(varied))
    assert found.passed
    assert found.warnings == ["it has no score for idea: this judge has no measure of ideas"]


def test_a_criterion_without_a_measure_is_not_asked_for_and_told_once():
    asked = []

    class Counts(Stub):
        measures = ("fluency", "tone")

        def grade(self, text, brief, criteria):
            asked.append(tuple(criteria))
            return super().grade(text, brief, criteria)

    found = judged(Counts(varied), limit=6)
    assert set(asked) == {("fluency", "tone")}
    told = [warning for warning in found.warnings if "no measure" in warning]
    assert told == [
        f"it has no measure of {name} and is not asked for it" for name in ("structure", "adherence", "idea")
    ]


@pytest.mark.parametrize(
    ("right", "ties", "n", "proved"),
    [
        (12, 48, 60, True),  # 12 of 12 decided: as 36 of 60 successes they proved nothing
        (6, 54, 60, True),  # 6 of 6: by a sign test p = 0.03
        (5, 55, 60, False),  # 5 of 5: p = 0.06
        (0, 60, 60, False),
        (30, 0, 60, False),
        (54, 0, 60, True),
        (20, 20, 60, False),
    ],
)
def test_ties_are_neither_half_a_proof_nor_half_a_doubt(right, ties, n, proved):
    accuracy = figures.Accuracy(n, right, ties)
    low, high = accuracy.interval
    assert accuracy.above_chance is proved
    assert 0 <= low <= accuracy.share <= high <= 1


def test_the_interval_of_a_share_with_ties_holds_the_truth_about_as_often_as_it_says():
    """95 of 100, whatever the share of ties: drawn 400 times each."""
    dice = random.Random(4)
    for chances in ((0.5, 0.3, 0.2), (0.2, 0.7, 0.1), (0.8, 0.0, 0.2), (0.3, 0.4, 0.3)):
        truth, held = chances[0] + chances[1] / 2, 0
        for _ in range(400):
            drawn = dice.choices(["right", "tie", "wrong"], chances, k=30)
            low, high = figures.Accuracy(30, drawn.count("right"), drawn.count("tie")).interval
            held += low <= truth <= high
        assert 0.925 <= held / 400 <= 0.985, chances


def test_without_ties_the_interval_is_wilsons():
    for right in range(11):
        assert figures.Accuracy(10, right, 0).interval == pytest.approx(wilson(right, 10))


def test_nothing_answered_says_nothing():
    accuracy = figures.Accuracy(0, 0, 0)
    assert accuracy.interval == (0.0, 1.0) and not accuracy.above_chance and str(accuracy) == "nothing answered"


def test_who_leads_is_decided_by_what_was_proved():
    """Six right of six pairs once led before 54 of 60."""

    def mistaken(text):
        return 2 if text in {pair.better for pair in PAIRS[:6]} else varied(text)

    many, few = judged(Stub(mistaken, name="many")), judged(Stub(varied, name="few"), limit=6)
    assert figures.by_score(many.answers).share == 0.9 and figures.by_score(few.answers).share == 1
    assert many.passed and few.passed and few.proved < many.proved
    audits = {"few": few, "many": many}
    assert leading(audits) == "many"
    assert leading(audits, candidates={"few"}) == "few"
    assert leading(audits, configured="few") == "few"


def test_one_that_passed_leads_before_one_that_failed_with_better_marks():
    failed = judged(Stub(varied, lambda one, other: "first", name="failed"))
    passed = judged(Stub(varied, name="passed"), limit=12)
    assert failed.proved > passed.proved and not failed.passed
    assert leading({"failed": failed, "passed": passed}) == "passed"
    assert leading({"failed": failed, "passed": passed}, configured="failed") == "failed"


def test_without_a_judge_that_may_lead_it_is_told():
    found = judged(Stub(varied), limit=6)
    with pytest.raises(AuditError, match="no judge can lead"):
        leading({"stub": found}, candidates=[])
    with pytest.raises(AuditError, match="gpt cannot lead"):
        leading({"stub": found}, configured="gpt")


def test_a_limit_takes_as_many_of_each_defect():
    few = some(PAIRS, 12, seed=1)
    assert [sum(pair.defect == defect for pair in few) for defect in dict.fromkeys(p.defect for p in PAIRS)] == [2] * 6
    assert few == some(PAIRS, 12, seed=1) != some(PAIRS, 12, seed=2)
    assert [pair.id for pair in few] == sorted(pair.id for pair in few)
    assert some(PAIRS, None, 1) == some(PAIRS, 60, 1) == PAIRS
    assert len({pair.defect for pair in some(PAIRS, 2, 1)}) == 2


def test_calls_at_once_find_the_same():
    lines = []
    found = judged(Stub(varied), limit=12, seed=3, concurrency=4, progress=lines.append)
    assert found == judged(Stub(varied), limit=12, seed=3)
    assert lines[-1] == "stub: 12 of 12 audit pairs"


def test_the_figures_are_what_the_ledger_takes(tmp_path):
    from lekhai_helpers.core.ledger import Ledger

    found = judged(Stub(varied))
    with Ledger(tmp_path / "l.db", experiment="e", recipe="r", profile="p", settings="{}") as ledger:
        ledger.add_audit(found.judge, found.rows(), passed=found.passed, sentence=found.sentence)
        table = ledger.audits().set_index("metric")
    assert table.loc["passed", "value"] == 1 and table.loc["passed", "note"] == found.sentence
    assert table.loc["accuracy by score", ["value", "n"]].to_list() == [1.0, 60]
    assert table.loc["accuracy by choice: wrong_tone", ["value", "n", "note"]].to_list() == [1.0, 10, "0 ties"]
    assert table.loc["flip rate", "value"] == 0 and table.loc["different scores", "value"] == 6


def test_a_file_that_holds_no_pairs_is_refused(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("id,better\n1,x\n", encoding="utf-8")
    with pytest.raises(AuditError, match="lacks the columns defect"):
        load_pairs(path)
    path.write_text(data_file("judge_audit.csv").read_text(encoding="utf-8-sig").splitlines()[0], encoding="utf-8")
    with pytest.raises(AuditError, match="holds no pair"):
        load_pairs(path)
    with pytest.raises(AuditError, match="no pair to audit"):
        judged(Stub(varied), pairs=[])
