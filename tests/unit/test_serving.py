"""The small HTTP service: what an agency's page can rely on, and what it is told when something is wrong."""

import logging

import pytest
from fastapi.testclient import TestClient

from lekhai_helpers.ship.serving import ScriptRequest, WriterError, brief_prompt, create_app

SCRIPT = "\n".join(
    [
        "| Visual | Audio |",
        "|---|---|",
        *(f"| ক্লোজ-আপ: দেয়ালের রং {number} | ভিও: ঘরের গল্প {number} |" for number in "১২৩৪৫৬"),
    ]
)
REQUEST = {
    "industry": "রং ও গৃহসজ্জা (Paint & Home)",
    "tone": "উষ্ণ পারিবারিক (Warm family)",
    "brand": "ঝিলমাটি",
    "product": "দেয়ালের রং",
    "duration_seconds": 30,
    "message": "বর্ষাতেও রং থাকে",
}


def client_for(writer, **options) -> TestClient:
    return TestClient(create_app(writer, "tiny-test", **options), raise_server_exceptions=False)


@pytest.fixture
def client():
    return client_for(lambda request: SCRIPT)


def assert_problem(response, status: int, *words: str) -> None:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status and body["title"] and body["detail"]
    for word in words:
        assert word in body["detail"]


def test_a_script_comes_back_as_markdown_rows_and_verdict(client):
    answer = client.post("/v1/scripts", json=REQUEST).json()
    assert answer["markdown"] == SCRIPT
    assert len(answer["rows"]) == 6
    assert answer["rows"][0] == {"visual": "ক্লোজ-আপ: দেয়ালের রং ১", "audio": "ভিও: ঘরের গল্প ১"}
    assert answer["contract"]["ok"] and answer["contract"]["facts"]["rows"] == 6
    assert answer["model"] == "tiny-test" and answer["seconds"] >= 0


def test_a_broken_script_is_returned_with_the_reason():
    """The page has to show what the model wrote even where it is no table."""
    answer = client_for(lambda request: "কোনো টেবিল নেই").post("/v1/scripts", json=REQUEST)
    assert answer.status_code == 200
    assert answer.json()["rows"] == [] and not answer.json()["contract"]["ok"]
    assert "there is no table" in answer.json()["contract"]["problems"]


def test_the_length_asked_for_is_part_of_the_verdict(client):
    answer = client.post("/v1/scripts", json=REQUEST | {"duration_seconds": 60}).json()
    assert any("60 s" in problem for problem in answer["contract"]["problems"])


def test_health_names_the_model(client):
    assert client.get("/health").json() == {"status": "ok", "model": "tiny-test"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"brand": None}, ["brand", "must be text"]),
        ({"brand": ""}, ["brand", "must not be empty"]),
        ({"brand": " \n "}, ["brand", "must not be empty"]),
        ({"brand": "ক" * 81}, ["brand", "at most 80 characters"]),
        ({"message": "ক" * 1001}, ["message", "at most 1000 characters"]),
        ({"duration_seconds": 9}, ["duration_seconds", "at least 10"]),
        ({"duration_seconds": 100_000}, ["duration_seconds", "at most 90"]),
        ({"duration_seconds": "soon"}, ["duration_seconds", "whole number"]),
        ({"lenght": 3}, ["lenght", "is not known", "duration_seconds"]),
    ],
)
def test_a_bad_field_is_named_in_plain_words(client, change, words):
    assert_problem(client.post("/v1/scripts", json=REQUEST | change), 422, *words)


def test_what_was_sent_is_not_repeated_in_the_error(client):
    response = client.post("/v1/scripts", json=REQUEST | {"message": "গোপন" * 1000})
    assert "গোপন" not in response.text and len(response.text) < 1000


def test_a_missing_field_and_a_body_that_is_no_json_are_said_so(client):
    assert_problem(client.post("/v1/scripts", json={"brand": "ঝিলমাটি"}), 422, "product is missing")
    broken = client.post("/v1/scripts", content="{brand", headers={"Content-Type": "application/json"})
    assert_problem(broken, 422, "not valid JSON")
    assert_problem(client.post("/v1/scripts", content="brand=x"), 422, "Content-Type: application/json")
    assert_problem(client.post("/v1/scripts", json=[1]), 422, "must be a JSON object")


def test_unknown_addresses_and_verbs_say_what_there_is(client):
    assert_problem(client.get("/v1/skripts"), 404, "POST /v1/scripts")
    assert_problem(client.get("/v1/scripts"), 405, "POST /v1/scripts")


def test_a_writer_that_cannot_answer_gives_503_with_its_reason():
    def busy(request):
        raise WriterError("the model is still loading: try again in a minute")

    assert_problem(client_for(busy).post("/v1/scripts", json=REQUEST), 503, "still loading")


def test_a_surprise_tells_the_client_nothing_about_the_machine(caplog):
    def broken(request):
        raise ValueError("/home/rahima/secret.gguf is broken")

    with caplog.at_level(logging.CRITICAL):
        response = client_for(broken).post("/v1/scripts", json=REQUEST)
    assert_problem(response, 500, "could not be written")
    assert "secret" not in response.text


def test_the_writer_gets_clean_text_and_nothing_is_run_or_opened(tmp_path, monkeypatch):
    """Text that looks like a command, a path or markup stays text."""
    monkeypatch.chdir(tmp_path)
    seen = []
    nasty = REQUEST | {"brand": "রং\n$(touch harm)", "message": "../../etc/passwd `touch harm` <script>"}
    client_for(lambda request: seen.append(request) or SCRIPT).post("/v1/scripts", json=nasty)
    assert seen[0].brand == "রং $(touch harm)" and seen[0].message == nasty["message"]
    assert list(tmp_path.iterdir()) == []


def test_only_named_pages_may_call_from_elsewhere():
    client = client_for(lambda request: SCRIPT, origins=["https://lekhai.example"])
    asked = {"Access-Control-Request-Method": "POST"}
    good = client.options("/v1/scripts", headers=asked | {"Origin": "https://lekhai.example"})
    bad = client.options("/v1/scripts", headers=asked | {"Origin": "https://elsewhere.example"})
    assert good.headers["access-control-allow-origin"] == "https://lekhai.example"
    assert "access-control-allow-origin" not in bad.headers


def test_the_api_description_tells_of_errors(client):
    responses = client.get("/openapi.json").json()["paths"]["/v1/scripts"]["post"]["responses"]
    assert {"200", "422", "500", "503"} <= set(responses)
    assert "application/problem+json" in responses["422"]["content"]


def test_the_brief_names_everything_asked_for_in_bengali():
    brief = brief_prompt(ScriptRequest(**REQUEST))
    for part in ("ঝিলমাটি", "দেয়ালের রং", "৩০ সেকেন্ড", "উষ্ণ পারিবারিক সুরে", "রং ও গৃহসজ্জা", "বর্ষাতেও রং থাকে"):
        assert part in brief
    assert "Warm" not in brief


def test_the_brief_leaves_out_what_was_not_given():
    brief = brief_prompt(ScriptRequest(brand="ঝিলমাটি", product="রং"))
    assert brief == "ঝিলমাটি ব্র্যান্ডের রং নিয়ে ৩০ সেকেন্ডের একটি বিজ্ঞাপনের চিত্রনাট্য লিখুন।"
