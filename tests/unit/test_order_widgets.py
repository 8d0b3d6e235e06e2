"""The fields of an order in a notebook: those of its form, filled in, with what the service offers."""

import pytest

pytest.importorskip("ipywidgets", reason="the fields are widgets, and ipywidgets is not here")

from lekhai_helpers.core.recipe import resolve  # noqa: E402
from lekhai_helpers.ship.forms import form_of  # noqa: E402
from lekhai_helpers.ship.order_widgets import controls  # noqa: E402

LENGTHS = {"least": 10, "most": 60, "usual": 30}


def made(recipe: str):
    settings = resolve(recipe, "smoke")
    serving, request = settings.serving, form_of(settings).example(settings).model_dump()
    offered = {"industries": serving.industries, "tones": serving.tones, "duration_seconds": LENGTHS}
    return request, controls(offered, request)


def test_an_ad_has_sliders_of_what_the_service_offers_and_is_filled_in():
    request, fields = made("lekhai")
    assert set(fields) == set(request) - {"stream"}
    assert fields["industry"].value == request["industry"] and len(fields["tone"].options) == 13
    assert (fields["duration_seconds"].max, fields["duration_seconds"].value) == (60, 20)


def test_a_message_has_one_box_and_names_of_which_none_are_offered_are_free():
    request, fields = made("tutor")
    assert fields["message"].value == request["message"] and type(fields["message"]).__name__ == "Textarea"
    assert type(fields["tone"]).__name__ == "Text" and "duration_seconds" not in fields and "stream" not in fields
