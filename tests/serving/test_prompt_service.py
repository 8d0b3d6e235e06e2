"""The service for recipes that take one message: what is asked, what is answered, kept, taken away and refused."""

import csv
import io
import json

import pytest
from docx import Document

from lekhai_helpers.core.recipe import SettingsError, available, resolve
from lekhai_helpers.ship.forms import form_of
from lekhai_helpers.ship.load import measure_load
from tests.serving.fakes import REQUEST, assert_problem

PATH = json.dumps(
    [
        {"level": 1, "title": "Halves", "goal": "say what a half is", "minutes": 20},
        {"level": 2, "title": "Quarters", "goal": "halve a half", "minutes": 20},
    ]
)
CALL = '<tool_call>{"name": "get_weather", "arguments": {"location": "Dhaka"}}</tool_call>'
ASKED = "Explain to a pupil of class six why the moon changes its shape."


def ask(bench, **change):
    return bench.client.post("/v1/scripts", json={"message": ASKED} | change)


@pytest.fixture
def tutor(start):
    return start(recipe="tutor")


def test_the_choices_say_what_the_service_is_for(tutor):
    choices = tutor.client.get("/v1/choices").json()
    assert (choices["form"], choices["language"], choices["unit"]) == ("prompt", "en", "answer")
    assert choices["one"] == "an answer of the right form" and "JSON" in choices["rule"]
    assert choices["industries"] == [] and choices["tones"] == [] and choices["group"] == "subject"
    assert choices["examples"] == resolve("tutor", "smoke").serving.trials


def test_the_message_is_what_the_model_is_asked_with(tutor):
    body = ask(tutor).json()
    asked = tutor.world.bodies[-1]
    assert asked["messages"] == [
        {"role": "system", "content": resolve("tutor", "smoke").system_prompt},
        {"role": "user", "content": ASKED},
    ]
    assert "grammar" not in asked, "this contract has none"
    kept = tutor.client.get(f"/v1/scripts/{body['id']}").json()
    assert kept["request"]["message"] == ASKED and kept["markdown"] == body["markdown"] and kept["rows"] == []


def test_an_answer_is_held_to_the_contract_of_its_own_recipe(tutor, start):
    tutor.world.of("one.gguf").text = '{"classification": "song"}'
    assert not ask(tutor).json()["contract"]["ok"]
    tutor.world.of("one.gguf").text = PATH
    body = ask(tutor).json()
    assert body["contract"]["ok"], body["contract"]["problems"]
    assert body["table"]["columns"] == ["level", "title", "goal", "minutes"] and body["rows"] == []
    assert body["table"]["rows"][0] == ["1", "Halves", "say what a half is", "20"]


def test_an_answer_with_strokes_is_no_ad_script(tutor):
    tutor.world.of("one.gguf").text = "| Visual | Audio |\n|---|---|\n| a | b |"
    body = ask(tutor).json()
    assert body["rows"] == [] and body["table"] is None


def test_a_call_is_shown_as_a_table_and_a_wrong_one_is_told(start):
    bench = start(recipe="twainbot")
    bench.world.of("one.gguf").text = CALL
    body = ask(bench, message="How is the weather in Dhaka?").json()
    assert body["contract"]["ok"] and body["table"] == {
        "columns": ["tool", "location"],
        "rows": [["get_weather", "Dhaka"]],
    }
    bench.world.of("one.gguf").text = CALL.replace("get_weather", "open_the_door")
    problems = ask(bench).json()["contract"]["problems"]
    assert any("no tool named 'open_the_door'" in problem for problem in problems)


def test_words_beside_a_call_are_shown_and_taken_away(start):
    """The table of the calls stood alone, and what the model had said with them was lost."""
    bench = start(recipe="twainbot")
    bench.world.of("one.gguf").text = f"Sit tight, friend.\n{CALL}"
    body = ask(bench).json()
    assert not body["contract"]["ok"] and body["table"] is None
    for ending in ("csv", "docx"):
        content = bench.client.get(f"/v1/scripts/{body['id']}/{ending}").content
        told = (
            content.decode() if ending == "csv" else "".join(p.text for p in Document(io.BytesIO(content)).paragraphs)
        )
        assert "Sit tight, friend." in told and "get_weather" in told


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "message is missing"),
        ({"message": " \n"}, "message"),
        ({"message": "\u200b"}, "message must not be empty"),
        ({"message": "\u2060 \u200b"}, "message must not be empty"),
        ({"message": "\ufeff"}, "message must not be empty"),
        ({"message": "x" * 8001}, "at most 8000 characters"),
        ({"message": 3}, "message must be text"),
        ({"message": "x", "brand": "y"}, "brand is not known"),
        ({"message": "x", "duration_seconds": 30}, "duration_seconds is not known"),
    ],
)
def test_a_wrong_order_is_named_in_plain_words(tutor, body, words):
    assert_problem(tutor.client.post("/v1/scripts", json=body), 422, words)


def test_an_agencys_service_still_wants_brand_and_product(bench):
    assert_problem(ask(bench), 422, "brand is missing")


def test_a_tone_is_said_to_the_model_and_a_group_filters_the_history(tutor):
    ask(tutor, tone="cheerful", industry="physics")
    ask(tutor)
    first, second = (body["messages"][1]["content"] for body in list(tutor.world.bodies)[-2:])
    assert first == f"{ASKED} Tone: cheerful." and second == ASKED
    found = tutor.client.get("/v1/scripts", params={"industry": "physics"}).json()["scripts"]
    assert [script["request"]["tone"] for script in found] == ["cheerful"]
    assert len(tutor.client.get("/v1/scripts", params={"query": "moon"}).json()["scripts"]) == 2


def test_a_stream_ends_with_the_whole_answer(tutor):
    tutor.world.of("one.gguf").text = PATH
    text = ask(tutor, stream=True).text
    assert text.count("event: delta") == 4 and '"columns": ["level", "title", "goal", "minutes"]' in text


def test_documents_of_a_table_and_of_plain_text(tutor):
    tutor.world.of("one.gguf").text = PATH
    id = ask(tutor).json()["id"]
    rows = list(csv.reader(io.StringIO(tutor.client.get(f"/v1/scripts/{id}/csv").content.decode("utf-8-sig"))))
    assert rows[0] == ["level", "title", "goal", "minutes"] and rows[2][1] == "Quarters"
    document = Document(io.BytesIO(tutor.client.get(f"/v1/scripts/{id}/docx").content))
    assert document.tables[0].rows[1].cells[1].text == "Halves"
    texts = [paragraph.text for paragraph in document.paragraphs]
    assert texts[0] == "Explain to a pupil of class six why the moon changes its sha…" or texts[0].startswith("Explain")
    assert f"Request: {ASKED}" in texts and "It is an answer of the right form." in texts
    tutor.world.of("one.gguf").text = "=1+1 is two.\nIs it not?"
    id = ask(tutor).json()["id"]
    rows = list(csv.reader(io.StringIO(tutor.client.get(f"/v1/scripts/{id}/csv").content.decode("utf-8-sig"))))
    assert rows == [["answer"], ["'=1+1 is two."], ["Is it not?"]], "a formula must not run"


def test_a_new_model_must_answer_the_recipes_own_messages(tutor):
    tutor.world.of("two.gguf").text = '{"classification": "song"}'
    assert_problem(tutor.reload("two.gguf"), 422, "no valid answer in 3 tries", "it is not put in place")
    tutor.world.of("three.gguf").text = PATH
    assert tutor.reload("three.gguf").status_code == 200
    tried = [body["messages"][1]["content"] for body in tutor.world.bodies]
    assert set(tried) == set(resolve("tutor", "smoke").serving.trials)


def test_without_messages_to_try_no_new_model_is_let_in(start):
    """A model that nobody saw write a word took the place of one that did."""
    bench = start({"serving.trials": []}, recipe="tutor")
    assert_problem(bench.reload("two.gguf"), 422, "serving.trials")


def test_a_load_asks_what_the_recipe_can_answer(tutor):
    (level,) = measure_load(str(tutor.client.base_url).rstrip("/"), (2,), 4)
    assert (level.scripts, level.failed) == (4, 0)


def test_the_description_names_the_fields_of_this_form(tutor, start):
    body = tutor.client.get("/openapi.json").json()["paths"]["/v1/scripts"]["post"]["requestBody"]
    assert body["content"]["application/json"]["schema"]["$ref"].endswith("/PromptRequest")


def test_every_recipe_keeps_its_answers_in_a_file_of_its_own():
    """One file for all showed a companion's private answers in the history of an agency's page."""
    files = [resolve(recipe, "cpu").serving.history for recipe in available("recipes")]
    assert len(set(files)) == len(files) and resolve("lekhai", "cpu").serving.history == "scripts.db"
    with pytest.raises(SettingsError, match="serving.history"):
        resolve("tutor", "cpu", {"serving.history": "../elsewhere.db"})


@pytest.mark.parametrize("recipe", available("recipes"))
def test_every_recipe_has_an_example_and_messages_to_try(recipe):
    settings = resolve(recipe, "cpu")
    form = form_of(settings)
    assert len(form.samples(settings)) == 3 and form.prompt(form.example(settings), settings)
    assert settings.card.about and settings.card.not_for and settings.card.tags


def test_one_script_of_an_agency_is_answered_as_before(bench):
    body = bench.write().json()
    assert body["table"] is None and len(body["rows"]) == 6
    assert bench.store.get(body["id"]).request == REQUEST
