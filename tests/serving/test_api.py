"""The service's addresses: what a page can rely on, and what it is told when something is wrong."""

import csv
import json

import pytest
from sqlalchemy.exc import IntegrityError

from lekhai_helpers.core.recipe import data_file, resolve
from lekhai_helpers.ship.engines import EngineError, remote_engine
from lekhai_helpers.ship.forms import ScriptRequest, brief_prompt
from lekhai_helpers.ship.store import StoreError
from tests.serving.fakes import ONE, REQUEST, SCRIPT, assert_problem, read_events


def test_a_script_comes_back_as_markdown_rows_and_verdict_and_is_kept(bench):
    answer = bench.write()
    body = answer.json()
    assert answer.status_code == 200 and body["markdown"] == SCRIPT and len(body["rows"]) == 6
    assert body["rows"][0] == {"visual": "ক্লোজ-আপ: দেয়ালের রং ১", "audio": "ভিও: ঘরের গল্প ১"}
    assert body["contract"]["ok"] and body["contract"]["facts"]["rows"] == 6
    assert body["model"] == answer.headers["x-lekhai-model"] == ONE and body["seconds"] > 0
    kept = bench.store.get(body["id"])
    assert kept.markdown == SCRIPT and kept.model == ONE and kept.request == REQUEST and body["warning"] == ""


def test_the_engine_is_asked_with_the_trained_words_and_the_grammar(bench):
    bench.write(product="রং Premium")
    asked = bench.world.bodies[-1]
    system, user = asked["messages"]
    assert system["content"] == resolve("lekhai", "smoke").system_prompt
    assert user["content"] == brief_prompt(ScriptRequest(**REQUEST | {"product": "রং Premium"}))
    assert asked["grammar"].startswith("root ::=") and "Premium" in asked["grammar"]
    assert (asked["top_k"], asked["min_p"], asked["max_tokens"]) == (0, 0.0, 48)


def test_a_stream_gives_the_pieces_and_then_the_whole_answer(bench):
    answer = bench.write(stream=True)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-lekhai-model"] == ONE
    *pieces, (last, body) = read_events(answer.text)
    assert [name for name, _ in pieces] == ["delta"] * 4 and last == "done"
    assert "".join(data["text"] for _, data in pieces) == body["markdown"] == SCRIPT
    assert bench.store.get(body["id"]).markdown == SCRIPT


def test_a_line_separator_inside_a_text_does_not_cut_the_stream(bench):
    """U+2028 ends a line for Python's splitlines; the piece of JSON it stood in was no JSON any more."""
    bench.world.of("one.gguf").text = "| Visual | Audio |\u2028|---|---|\x85| ক | খ |"
    assert bench.write().json()["markdown"] == "| Visual | Audio |\u2028|---|---|\x85| ক | খ |"


def test_a_broken_script_is_returned_with_the_reason_and_kept_as_broken(bench):
    bench.world.of("one.gguf").text = "কোনো টেবিল নেই"
    body = bench.write().json()
    assert body["rows"] == [] and "there is no table" in body["contract"]["problems"]
    assert not bench.store.get(body["id"]).valid


def test_the_length_asked_for_is_part_of_the_verdict(bench):
    body = bench.write(duration_seconds=60).json()
    assert any("60 s" in problem for problem in body["contract"]["problems"])


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
        ({"stream": "perhaps"}, ["stream", "true or false"]),
        ({"lenght": 3}, ["lenght", "is not known"]),
    ],
)
def test_a_bad_field_is_named_in_plain_words(bench, change, words):
    answer = bench.write(**change)
    assert_problem(answer, 422, *words)
    assert answer.json()["errors"][0]["field"] == next(iter(change))


def test_the_lengths_of_the_settings_hold(start):
    bench = start({"serving.most_seconds": 45})
    assert_problem(bench.write(duration_seconds=60), 422, "duration_seconds must be 10 to 45 here")
    assert bench.client.get("/v1/choices").json()["duration_seconds"] == {"least": 10, "most": 45, "usual": 30}


def test_what_was_sent_is_not_repeated_in_the_error(bench):
    response = bench.write(message="গোপন" * 1000)
    assert "গোপন" not in response.text and len(response.text) < 1000


def test_a_missing_field_and_a_body_that_is_no_json_are_said_so(bench):
    assert_problem(bench.client.post("/v1/scripts", json={"brand": "ঝিলমাটি"}), 422, "product is missing")
    kind = {"Content-Type": "application/json"}
    assert_problem(bench.client.post("/v1/scripts", content="{brand", headers=kind), 422, "not valid JSON")
    assert_problem(bench.client.post("/v1/scripts", content="brand=x"), 422, "Content-Type: application/json")
    assert_problem(bench.client.post("/v1/scripts", json=[1]), 422, "must be a JSON object")


def test_unknown_addresses_and_verbs_say_what_there_is(bench):
    assert_problem(bench.client.get("/v1/skripts"), 404, "POST /v1/scripts")
    assert_problem(bench.client.delete("/v1/scripts"), 405, "POST /v1/scripts")


def test_the_choices_are_the_names_of_the_training_data(bench):
    """A name on a slider that the model has never read would be answered with a guess."""
    with data_file("Ad Script Dataset - Scripts.csv").open(encoding="utf-8-sig", newline="") as handle:
        rows = list(csv.DictReader(handle))
    choices = bench.client.get("/v1/choices").json()
    assert set(choices["industries"]) == {row["industry"] for row in rows}
    assert set(choices["tones"]) == {row["tone"] for row in rows}
    assert len(choices["industries"]) == 17 and len(choices["tones"]) == 13


# --- history


def test_history_is_paged_searched_and_read_one_by_one(bench):
    ids = [bench.write(brand=f"ব্র্যান্ড{number}").json()["id"] for number in range(5)]
    first = bench.client.get("/v1/scripts", params={"limit": 3}).json()
    assert [script["id"] for script in first["scripts"]] == ids[:1:-1] and first["next"] == ids[2]
    rest = bench.client.get("/v1/scripts", params={"limit": 3, "before": first["next"]}).json()
    assert [script["id"] for script in rest["scripts"]] == ids[1::-1] and rest["next"] is None
    found = bench.client.get("/v1/scripts", params={"query": "ব্র্যান্ড3"}).json()["scripts"]
    assert [script["id"] for script in found] == [ids[3]] and len(found[0]["rows"]) == 6
    assert bench.client.get(f"/v1/scripts/{ids[0]}").json()["request"]["brand"] == "ব্র্যান্ড0"


def test_an_id_that_is_none_or_nobodys_is_said_so(bench):
    nobody = "00000000-0000-4000-8000-000000000000"
    assert_problem(bench.client.get(f"/v1/scripts/{nobody}"), 404, "nothing with this id")
    assert_problem(bench.client.get("/v1/scripts/../../etc/passwd"), 404)
    assert_problem(bench.client.get("/v1/scripts/x'; DROP TABLE scripts"), 422, "must be the id of an answer")
    assert_problem(bench.client.get("/v1/scripts", params={"before": nobody}), 404, "begin the list again")
    assert_problem(bench.client.get("/v1/scripts", params={"limit": 0}), 422, "limit must be at least 1")


def test_documents_are_attachments_whose_names_hold_nothing_of_the_clients(bench):
    id = bench.write(brand='"; x="../../evil').json()["id"]
    word = bench.client.get(f"/v1/scripts/{id}/docx")
    table = bench.client.get(f"/v1/scripts/{id}/csv")
    assert word.headers["content-disposition"] == f'attachment; filename="lekhai-{id[:8]}.docx"'
    assert word.content[:2] == b"PK" and word.headers["content-type"].endswith("wordprocessingml.document")
    assert table.headers["content-disposition"] == f'attachment; filename="lekhai-{id[:8]}.csv"'
    assert table.content.startswith(b"\xef\xbb\xbf") and "দেয়ালের রং ১" in table.text


class SurprisedStore:
    """Raises what nobody foresaw, with words of the user in it."""

    def add(self, script):
        raise IntegrityError("INSERT", {"markdown": "ঝিলমাটি"}, Exception("duplicate key"))

    def close(self):
        pass


def test_a_fault_of_the_store_that_nobody_foresaw_costs_no_script(start, caplog):
    answer = start(store=SurprisedStore()).write()
    assert answer.status_code == 200 and answer.json()["rows"] and answer.json()["id"] is None
    assert "could not be kept: IntegrityError" in caplog.text and "ঝিলমাটি" not in caplog.text


class BrokenStore:
    """A database that went away, with something in its words that no client should read."""

    def add(self, script):
        raise StoreError("postgresql://lekhai@secret-host: gone")

    def search(self, *_):
        raise StoreError("postgresql://lekhai@secret-host: gone")

    get = search

    def close(self):
        return None


@pytest.mark.parametrize("stream", [False, True])
def test_a_script_that_cannot_be_kept_is_given_without_an_id_and_with_a_warning(start, stream, caplog):
    """A minute's work is worth more in somebody's hands than an error; but nothing says that it was kept."""
    bench = start(store=BrokenStore())
    body = bench.events()[-1][1] if stream else bench.write().json()
    assert body["markdown"] == SCRIPT and body["id"] is None and body["created_at"] is None
    assert "could not be kept" in body["warning"]
    assert "secret-host" in caplog.text and "secret-host" not in json.dumps(body)


def test_a_history_that_cannot_be_read_says_so_without_the_databases_words(start):
    answer = start(store=BrokenStore()).client.get("/v1/scripts")
    assert_problem(answer, 503, "cannot be reached")
    assert "secret-host" not in answer.text and answer.headers["retry-after"] == "10"


# --- chat


CHAT = {"messages": [{"role": "user", "content": "হ্যালো"}], "model": "gpt-4o"}


def test_a_chat_is_passed_on_and_names_the_model_that_answered(bench):
    answer = bench.client.post("/v1/chat/completions", json=CHAT | {"max_tokens": 9999, "temperature": 0.1})
    assert answer.json()["choices"][0]["message"]["content"] == SCRIPT
    assert answer.json()["model"] == answer.headers["x-lekhai-model"] == ONE
    asked = bench.world.bodies[-1]
    assert asked["max_tokens"] == 48 and asked["temperature"] == 0.1 and "grammar" not in asked


def test_a_chat_stream_is_passed_on_with_our_models_name(bench):
    answer = bench.client.post("/v1/chat/completions", json=CHAT | {"stream": True})
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n") if line]
    assert lines[-1] == "[DONE]"
    events = [json.loads(line) for line in lines[:-1]]
    assert {event["model"] for event in events} == {ONE}
    text = "".join(event["choices"][0]["delta"].get("content", "") for event in events)
    assert text == SCRIPT


@pytest.mark.parametrize("field", [{"n_predict": 100_000}, {"grammar": "root ::= x"}, {"id_slot": 1}, {"n": 5}])
def test_an_engines_own_settings_cannot_undo_the_limits(bench, field):
    assert_problem(bench.client.post("/v1/chat/completions", json=CHAT | field), 422, next(iter(field)))
    assert not bench.world.bodies


# --- machines


def test_health_names_the_model_and_the_load(bench):
    answer = bench.client.get("/health")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ok", "model": ONE, "in_flight": 0, "waiting": 0}


def test_metrics_count_by_route_and_hold_no_text(bench):
    bench.write()
    bench.client.get("/v1/scripts", params={"query": "গোপন"})
    bench.client.get("/v1/nowhere/x")
    text = bench.client.get("/metrics").text
    assert 'lekhai_requests_total{method="POST",route="/v1/scripts",status="200"} 1.0' in text
    assert 'lekhai_scripts_total{kept="true",valid="true"} 1.0' in text
    assert "lekhai_engine_up 1.0" in text and "lekhai_first_text_seconds_count 1.0" in text
    assert 'route="none",status="404"' in text and "nowhere" not in text and "গোপন" not in text


def test_the_page_is_there_and_may_load_nothing_from_elsewhere(bench):
    page = bench.client.get("/")
    assert page.status_code == 200 and "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    assert bench.client.get("/static/../api.py").status_code == 404


def test_the_description_is_complete(bench):
    document = bench.client.get("/openapi.json").json()
    text = json.dumps(document)
    refs = {part.split('"')[0] for part in text.split('"#/components/schemas/')[1:]}
    assert refs <= set(document["components"]["schemas"]) and "Problem" in refs
    assert "HTTPValidationError" not in text
    paths = {f"{verb} {path}" for path, verbs in document["paths"].items() for verb in verbs}
    assert paths == {
        *("get /v1/choices", "post /v1/scripts", "get /v1/scripts", "get /v1/scripts/{id}"),
        *("get /v1/scripts/{id}/docx", "get /v1/scripts/{id}/csv", "post /v1/chat/completions"),
        *("get /health", "get /metrics", "post /admin/reload-model"),
    }
    assert all(route["description"] for verbs in document["paths"].values() for route in verbs.values())
    writing = document["paths"]["/v1/scripts"]["post"]["responses"]
    assert {"200", "401", "413", "422", "429", "500", "503", "504"} <= set(writing)
    assert "application/problem+json" in writing["422"]["content"]
    assert set(writing["200"]["content"]) == {"application/json", "text/event-stream"}


# --- the brief


def test_the_brief_names_everything_asked_for_in_bengali():
    brief = brief_prompt(ScriptRequest(**REQUEST))
    for part in ("ঝিলমাটি", "দেয়ালের রং", "৩০ সেকেন্ড", "উষ্ণ পারিবারিক সুরে", "রং ও গৃহসজ্জা", "বর্ষাতেও রং থাকে"):
        assert part in brief
    assert "Warm" not in brief


def test_the_brief_leaves_out_what_was_not_given():
    brief = brief_prompt(ScriptRequest(brand="ঝিলমাটি", product="রং"))
    assert brief == "ঝিলমাটি ব্র্যান্ডের রং নিয়ে ৩০ সেকেন্ডের একটি বিজ্ঞাপনের চিত্রনাট্য লিখুন।"


def test_text_that_looks_like_a_command_a_path_or_markup_stays_text(bench, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    nasty = {"brand": "রং\n$(touch harm)", "message": "../../etc/passwd `touch harm` <script>' OR 1=1 --"}
    id = bench.write(**nasty).json()["id"]
    assert bench.client.get(f"/v1/scripts/{id}").json()["request"]["brand"] == "রং $(touch harm)"
    assert bench.client.get("/v1/scripts", params={"query": "' OR 1=1 --x"}).json()["scripts"] == []
    assert [path for path in sorted(tmp_path.iterdir()) if path not in before and "scripts.db" not in path.name] == []


# --- an engine elsewhere


def test_an_engines_address_is_checked_and_its_key_is_sent_but_never_shown(monkeypatch):
    monkeypatch.setenv("LEKHAI_ENGINE_KEY", "engine-secret")
    engine = remote_engine("http://gpu-box:8000/v1/", "lekhai")
    assert engine.address == "http://gpu-box:8000" and engine.headers() == {"Authorization": "Bearer engine-secret"}
    assert "engine-secret" not in repr(engine) and engine.grammar_dialect == "none" and engine.alive()
    for wrong in ("gpu-box:8000", "file:///etc/passwd", "http://user:pass@gpu-box"):
        with pytest.raises(EngineError) as error:
            remote_engine(wrong, "lekhai")
        assert "pass@" not in str(error.value)
