"""Each candidate of a merge has its own parent, name and licence, also where one donor is made here and one is not."""

from pathlib import Path

import pytest

from lekhai_helpers.core.recipe import Donor
from lekhai_helpers.core.run_folder import write_json, write_text
from lekhai_helpers.prepare import model_facts
from lekhai_helpers.prepare.bases import Base
from lekhai_helpers.prepare.lineage import (
    NOT_SAID,
    as_candidate,
    blend_candidate,
    common_base,
    donor_candidate,
    donor_facts,
)
from lekhai_helpers.prepare.model_facts import MergeError
from lekhai_helpers.prepare.preflight import check_mergeable

EMBEDDED = Base("/cache/base", "Gemma 3 270M (embedded)", "gemma", "The base is Gemma 3 270M.")
HERE, READY = Donor(title="made"), Donor(title="ready", name="x/ready")
HUB = Base("x/root", "x/root", NOT_SAID, "The base is x/root.")


@pytest.fixture
def made(tmp_path):
    """The folder of a donor trained here: no card."""
    write_json(tmp_path / "made" / "config.json", {})
    return str(tmp_path / "made")


@pytest.fixture(autouse=True)
def hub(monkeypatch):
    """A hub of two models: x/root, and x/ready, which is its child under another licence."""
    cards = {"x/root": "license: gemma", "x/ready": "license: cc-by-4.0\nbase_model: x/root"}
    real = model_facts._text

    def text(name, file):
        if str(name) in cards:
            return {"README.md": f"---\n{cards[str(name)]}\n---\n", "config.json": "{}"}.get(file)
        if str(name).startswith("x/"):
            raise MergeError(f"{name} is no folder here")
        return real(name, file)

    monkeypatch.setattr(model_facts, "_text", text)


def test_two_donors_made_here_are_children_of_the_base_under_its_licence(made):
    facts = [donor_facts(HERE, made, EMBEDDED)] * 2
    assert facts[0].ancestors == (EMBEDDED.title,) and facts[0].licence == "gemma"
    assert common_base(*facts, EMBEDDED) == "/cache/base"


@pytest.mark.parametrize("order", [1, -1])
def test_beside_a_donor_made_here_a_ready_one_keeps_its_own_parent_and_licence(made, order):
    """Decided once for both by the language donor, the stranger passed as the base's child, and licence as equal."""
    donors = [(HERE, made), (READY, "x/ready")][::order]
    facts = [donor_facts(*donor, EMBEDDED) for donor in donors]
    assert [each.licence for each in facts] == ["gemma", "cc-by-4.0"][::order]
    assert [each.ancestors for each in facts] == [(EMBEDDED.title,), ("x/ready", "x/root")][::order]
    assert common_base(*facts, EMBEDDED) is None
    verdicts = {check.what: check.verdict for check in check_mergeable(*facts)}
    assert verdicts["lineage"] == verdicts["licence"] == "warn"


def test_a_donor_made_from_a_hub_model_is_the_sibling_of_that_models_children(made):
    facts = [donor_facts(HERE, made, HUB), donor_facts(READY, "x/ready", HUB)]
    assert facts[0].licence == "gemma" and facts[0].ancestors == ("x/root",)
    assert common_base(*facts, HUB) == "x/root"


def test_where_the_bases_card_cannot_be_had_its_licence_is_not_guessed(made):
    base = Base("x/offline", "x/offline", NOT_SAID, "")
    assert donor_facts(HERE, made, base).licence == NOT_SAID


def test_two_ready_donors_share_what_their_cards_say():
    facts = [donor_facts(READY, name, EMBEDDED) for name in ("x/ready", "x/root")]
    assert common_base(*facts, EMBEDDED) == "x/root"


def test_a_ready_donor_that_wins_has_its_own_name_and_licence():
    """It had the base's: a model under cc-by-4.0 was passed on as gemma's."""
    facts = donor_facts(READY, "x/ready", EMBEDDED)
    assert donor_candidate("structure donor", READY, "x/ready", facts, EMBEDDED) == Base(
        "x/ready", "x/ready", "cc-by-4.0", "The base of the fine-tuning is: x/ready."
    )


def test_a_donor_made_here_is_named_after_the_base(made):
    winner = donor_candidate("language donor", HERE, made, donor_facts(HERE, made, EMBEDDED), EMBEDDED)
    assert (winner.path, winner.title, winner.licence) == (made, f"{EMBEDDED.title}, language donor", "gemma")


@pytest.mark.parametrize(
    ("donors", "title", "licence"),
    [
        ([HERE, HERE], EMBEDDED.title, "gemma"),
        ([HERE, READY], f"{EMBEDDED.title} and x/ready", "gemma and cc-by-4.0"),
        ([READY, HERE], f"x/ready and {EMBEDDED.title}", "cc-by-4.0 and gemma"),
    ],
)
def test_a_blend_is_named_after_both_donors_and_under_both_licences(made, tmp_path, donors, title, licence):
    facts = [donor_facts(donor, made if donor is HERE else "x/ready", EMBEDDED) for donor in donors]
    blend = blend_candidate(tmp_path, 0.25, donors, facts, EMBEDDED)
    assert (blend.title, blend.licence) == (f"{title}, merged at t = 0.25", licence)
    assert blend.path == str(tmp_path) and title in blend.sentence


def test_a_licence_nobody_says_is_looked_up_and_not_the_bases(made):
    write_text(Path(made) / "README.md", "no front matter")
    own = Donor(title="mine", name=made)
    facts = donor_facts(own, made, EMBEDDED)
    assert donor_candidate("language donor", own, made, facts, EMBEDDED).licence == NOT_SAID
    pair = [facts, donor_facts(HERE, made, EMBEDDED)]
    blend = blend_candidate(Path(made), 0.5, [own, HERE], pair, EMBEDDED)
    assert blend.licence == NOT_SAID
    assert as_candidate(made, "no merge", None).licence == NOT_SAID
