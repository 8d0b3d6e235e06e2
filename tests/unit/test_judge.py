"""The judge asks a real HTTP endpoint, here a stand-in that misbehaves in every way we have met.

Every verdict is scored, unparsable or failed, and the key shows up nowhere.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lekhai_helpers.measure.judge import Judge, configured, counted, counted_table, grade_all, heatmap_table, tally
from lekhai_helpers.prepare.dataset import Brief

KEY = "sk-very-secret-12345"
CRITERIA = {"fluency": "1 broken, 10 natural", "tone": "1 wrong, 10 right"}
GOOD = json.dumps({"fluency": {"reason": "ভালো", "score": 7}, "tone": {"reason": "মেলে", "score": 9}})
RESPONSE = {"stage": "sft", "brief_id": "b1", "seed": 1, "prompt": "চায়ের বিজ্ঞাপন", "text": "| ক | খ |"}
BRIEF = Brief("b1", "চা", "শান্ত", 15, "ধোঁয়াতলা", "চা", "ধোঁয়াতলা চায়ের ছবি")


class Endpoint:
    """Answers like an OpenAI-compatible server, one scripted answer a call; the last one is repeated."""

    def __init__(self):
        self.answers, self.requests = [], []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                endpoint.requests.append(
                    {
                        "headers": {key.lower(): value for key, value in self.headers.items()},
                        "path": self.path,
                        "body": json.loads(body),
                    }
                )
                answers = endpoint.answers
                status, text, kind = answers.pop(0) if len(answers) > 1 else answers[0]
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("retry-after-ms", "1")
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def says(self, *answers):
        self.answers = [answer if isinstance(answer, tuple) else _completion(answer) for answer in answers]

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def _completion(content):
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    body = {"id": "c", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
    return 200, json.dumps(body), "application/json"


def _error(status, message="no"):
    return status, json.dumps({"error": {"message": message, "type": "t", "code": "c"}}), "application/json"


@pytest.fixture
def endpoint():
    endpoint = Endpoint()
    yield endpoint
    endpoint.close()


@pytest.fixture
def judge(endpoint, tmp_path):
    return Judge("m", endpoint.url, KEY, cache=tmp_path / "cache", max_retries=2, timeout=5)


def grade(judge, text="| ক | খ |"):
    return judge.grade(text, "চায়ের বিজ্ঞাপন", CRITERIA)


def states(scores):
    return [(score.status, score.score) for score in scores]


def test_good_json_is_scored(endpoint, judge):
    endpoint.says(GOOD)
    scores = grade(judge)
    assert states(scores) == [("scored", 7.0), ("scored", 9.0)]
    assert [score.criterion for score in scores] == ["fluency", "tone"]
    assert scores[0].reason == "ভালো"


def test_the_request_is_deterministic_and_carries_rubric_brief_and_schema(endpoint, judge):
    endpoint.says(GOOD)
    grade(judge)
    sent = endpoint.requests[0]
    assert sent["path"] == "/v1/chat/completions"
    assert sent["headers"]["authorization"] == f"Bearer {KEY}"
    assert sent["body"]["temperature"] == 0
    assert "1 broken, 10 natural" in sent["body"]["messages"][0]["content"]
    assert "চায়ের বিজ্ঞাপন" in sent["body"]["messages"][1]["content"]
    schema = sent["body"]["response_format"]["json_schema"]["schema"]
    assert schema["required"] == ["fluency", "tone"]


@pytest.mark.parametrize("wrapped", [f"```json\n{GOOD}\n```", f"Here you are: {GOOD} Good luck!"])
def test_json_in_a_fence_or_between_sentences_is_read(endpoint, judge, wrapped):
    endpoint.says(wrapped)
    assert states(grade(judge)) == [("scored", 7.0), ("scored", 9.0)]


@pytest.mark.parametrize(
    "reply", ["A lovely script, eight of ten.", GOOD[:40], "", "[1, 2]", "{}", "null", "{" * 100_000, "7 } {"]
)
def test_prose_and_half_json_are_unparsable(endpoint, judge, reply):
    endpoint.says(reply)
    assert states(grade(judge)) == [("unparsable", None)] * 2


@pytest.mark.parametrize("score", [0, 11, 7.5, "good", None, [], {}])
def test_a_broken_criterion_does_not_spoil_the_others(endpoint, judge, score):
    endpoint.says(json.dumps({"fluency": {"reason": "x", "score": score}, "tone": {"reason": "y", "score": 3}}))
    assert states(grade(judge)) == [("unparsable", None), ("scored", 3.0)]


def test_too_many_requests_are_waited_out(endpoint, judge):
    endpoint.says(_error(429, "slow down"), _error(503), GOOD)
    assert states(grade(judge)) == [("scored", 7.0), ("scored", 9.0)]
    assert len(endpoint.requests) == 3


def test_an_endpoint_that_stays_busy_fails_the_verdict(endpoint, judge):
    endpoint.says(_error(429, "slow down"))
    scores = grade(judge)
    assert states(scores) == [("failed", None)] * 2
    assert "RateLimitError" in scores[0].reason
    assert len(endpoint.requests) == 3


def test_a_server_without_json_schema_is_asked_without_it(endpoint, judge):
    endpoint.says(_error(400, "response_format json_schema is not supported"), GOOD)
    assert states(grade(judge)) == [("scored", 7.0), ("scored", 9.0)]
    grade(judge, "another")
    assert ["response_format" in request["body"] for request in endpoint.requests] == [True, False, False]


def test_a_wrong_key_is_told_once_and_appears_nowhere(endpoint, judge, caplog):
    """OpenAI's own error message repeats the key; it once went into the ledger with the reason."""
    endpoint.says(_error(401, f"Incorrect API key provided: {KEY}."))
    rows = grade_all(judge, [RESPONSE, RESPONSE | {"seed": 2}], CRITERIA)
    assert [row["status"] for row in rows] == ["failed"] * 4
    assert "check key" in rows[0]["reason"]
    assert len(endpoint.requests) == 1
    assert KEY not in json.dumps(rows) + repr(judge) + str(judge) + caplog.text


def test_a_key_that_the_model_repeats_stays_out_of_reasons_and_cache(endpoint, judge):
    endpoint.says(GOOD.replace("ভালো", f"key {KEY}"))
    assert KEY not in repr(grade(judge))
    assert all(KEY not in path.read_text(encoding="utf-8") for path in judge.cache.iterdir())


@pytest.mark.parametrize(
    "answer",
    [
        (200, "<html>hello</html>", "text/html"),
        (200, '{"ok": true}', "application/json"),
        (200, "{", "application/json"),
    ],
)
def test_an_address_that_is_no_api_is_told(endpoint, judge, answer):
    endpoint.says(answer)
    scores = grade(judge)
    assert states(scores) == [("failed", None)] * 2
    assert endpoint.url in scores[0].reason


def test_an_endpoint_that_is_down_is_not_asked_a_hundred_times(tmp_path):
    judge = Judge("m", "http://127.0.0.1:9/v1", KEY, cache=tmp_path, max_retries=0, timeout=2)
    rows = grade_all(judge, [RESPONSE | {"seed": n} for n in range(20)], CRITERIA)
    assert {row["status"] for row in rows} == {"failed"}
    assert "APIConnectionError" in rows[0]["reason"]
    assert "not asked" in rows[-1]["reason"]
    assert tally(rows) == "0 of 40 scored, 40 failed"


def test_a_second_run_goes_on_where_the_first_stopped(endpoint, judge, tmp_path):
    endpoint.says(GOOD, "prose", GOOD)
    assert tally(grade_all(judge, [RESPONSE, RESPONSE | {"text": "other"}], CRITERIA)) == "2 of 4 scored, 2 unparsable"
    again = Judge("m", endpoint.url, KEY, cache=tmp_path / "cache")
    assert tally(grade_all(again, [RESPONSE, RESPONSE | {"text": "other"}], CRITERIA)) == "4 of 4 scored"
    assert len(endpoint.requests) == 3


@pytest.mark.parametrize("change", [{"text": "x"}, {"prompt": "x"}, {"criteria": {"fluency": "other anchors"}}])
def test_a_changed_text_brief_or_rubric_is_judged_anew(endpoint, judge, change):
    endpoint.says(GOOD)
    judge.grade("t", "p", CRITERIA)
    judge.grade(change.get("text", "t"), change.get("prompt", "p"), change.get("criteria", CRITERIA))
    assert len(endpoint.requests) == 2


def test_verdict_rows_are_what_the_ledger_takes(endpoint, judge, tmp_path):
    from lekhai_helpers.core.ledger import Ledger

    endpoint.says(GOOD)
    lines = []
    rows = grade_all(judge, [RESPONSE], CRITERIA, progress=lines.append)
    assert lines == ["1 of 1 texts, 2 of 2 scored"]
    with Ledger(tmp_path / "l.db", experiment="e", recipe="r", profile="p", settings="{}") as ledger:
        facts = {"industry": "চা", "tone": "শান্ত", "ok": True, "problems": [], "facts": {}}
        ledger.add_responses("sft", [RESPONSE | facts | {"tokens": 9, "seconds": 1.0, "stopped": True}])
        ledger.add_verdicts(judge.model, rows)
        assert list(ledger.verdicts()["score"]) == [7.0, 9.0]
        assert tally(ledger.verdicts()) == "2 of 2 scored"
        assert tally(grade_all(judge, ledger.responses(), CRITERIA)) == "2 of 2 scored"


# --- configuration


@pytest.fixture
def environment(monkeypatch, tmp_path):
    for name in ("LEKHAI_JUDGE_KEY", "LEKHAI_JUDGE_URL", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LEKHAI_CACHE", str(tmp_path))
    return monkeypatch


def test_no_key_and_no_address_is_no_judge(environment):
    assert configured() is None
    environment.setenv("OPENAI_API_KEY", "  ")
    assert configured() is None


def test_a_key_alone_means_openai(environment):
    environment.setenv("OPENAI_API_KEY", KEY)
    judge = configured("gpt-4o")
    assert (judge.model, judge.base_url, judge.api_key) == ("gpt-4o", "https://api.openai.com/v1", KEY)


def test_an_openai_key_is_never_sent_to_another_address(environment):
    environment.setenv("OPENAI_API_KEY", KEY)
    environment.setenv("LEKHAI_JUDGE_URL", "http://localhost:8080/v1")
    assert configured().api_key == "no-key"
    environment.setenv("LEKHAI_JUDGE_KEY", "own")
    assert configured().api_key == "own"


# --- counting and the heatmap


def script(last="ভিও: ধোঁয়াতলা চা। আজই নিন।"):
    rows = [("চুলায় কেটলি।", "মা: চা হলো?"), ("জানালায় বৃষ্টি।", "রিনা: দাঁড়াও।"), ("উঠান।", "বাবা: গন্ধ পেলাম!")]
    lines = [f"| {visual} | {audio} |" for visual, audio in [*rows, ("প্যাকশট: কাপ।", last)]]
    return "\n".join(["| Visual | Audio |", "|---|---|", *lines])


def test_what_code_can_count_is_counted():
    facts = counted(script(), BRIEF)
    assert facts.pop("bengali_share") > 0.99
    assert facts == {
        "valid_table": True, "rows": 4, "rows_fit": True, "brand_named": True, "repeated_rows": 0,
        "call_to_action": True, "problems": [],
    }  # fmt: skip


def test_what_is_missing_is_counted_as_missing():
    facts = counted(script("ভিও: সারা দিন বৃষ্টি।"), BRIEF)
    assert not facts["brand_named"] and not facts["call_to_action"]
    empty = counted("", BRIEF)
    assert not empty["valid_table"] and not empty["rows_fit"] and empty["rows"] == 0


def test_the_heatmap_shows_means_counts_and_honest_gaps(endpoint, judge):
    import pandas as pd

    verdicts = pd.DataFrame(
        [
            ("b1", "fluency", "scored", 6.0),
            ("b2", "fluency", "scored", 8.0),
            ("b1", "tone", "unparsable", None),
            ("b3", "fluency", "failed", None),
            ("b3", "tone", "scored", 5.0),
        ],
        columns=["brief_id", "criterion", "status", "score"],
    )
    means, counts = heatmap_table(verdicts, {"b1": "চা", "b2": "চা", "b3": "ব্যাংক"})
    assert means.loc["চা", "fluency"] == 7
    assert counts.loc["চা"].to_dict() == {"fluency": 2, "tone": 0}
    assert pd.isna(means.loc["চা", "tone"]) and pd.isna(means.loc["ব্যাংক", "fluency"])
    assert means.index.equals(counts.index) and means.columns.equals(counts.columns)


def test_a_heatmap_of_nothing_but_failures_is_empty_and_does_not_raise():
    import pandas as pd

    verdicts = pd.DataFrame([("b1", "tone", "failed", None)], columns=["brief_id", "criterion", "status", "score"])
    means, counts = heatmap_table(verdicts, {"b1": "চা"})
    assert pd.isna(means.loc["চা", "tone"]) and counts.loc["চা", "tone"] == 0
    with pytest.raises(ValueError, match="industries"):
        heatmap_table(verdicts)


def test_counted_criteria_make_a_heatmap_too():
    means, counts = heatmap_table(counted_table([RESPONSE | {"text": script()}], [BRIEF]))
    assert means.loc["চা", "valid_table"] == 1
    assert counts.loc["চা"].sum() == 6
