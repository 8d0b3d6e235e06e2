"""The judge asks a real HTTP endpoint, here a stand-in that misbehaves in every way we have met.

Every verdict is scored, unparsable or failed, and the key shows up nowhere.
"""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lekhai_helpers.core.recipe import resolve
from lekhai_helpers.measure.judge import grade_all, pairwise, tally
from lekhai_helpers.measure.judge_client import Judge, JudgeError, configured, required
from lekhai_helpers.prepare.dataset import Brief

KEY = "sk-very-secret-12345"
CRITERIA = {"fluency": "1 broken, 10 natural", "tone": "1 wrong, 10 right"}
GOOD = json.dumps({"fluency": {"reason": "ভালো", "score": 7}, "tone": {"reason": "মেলে", "score": 9}})
RESPONSE = {"stage": "sft", "brief_id": "b1", "seed": 1, "prompt": "চায়ের বিজ্ঞাপন", "text": "| ক | খ |"}
BRIEF = Brief("b1", "চা", "শান্ত", 15, "ধোঁয়াতলা", "চা", "ধোঁয়াতলা চায়ের ছবি")
SETTINGS = resolve("lekhai", "smoke").judge


class Endpoint:
    """Answers like an OpenAI-compatible server, one scripted answer a call; the last one is repeated.

    An answer may be a function of the request. `delay` makes it slow, `missing` leaves so many bytes of a body out.
    """

    def __init__(self):
        self.answers, self.requests, self.delay, self.missing = [], [], 0, 0
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
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
                status, text, kind = answer(json.loads(body)) if callable(answer) else answer
                time.sleep(endpoint.delay)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("retry-after-ms", "1")
                self.send_header("Content-Length", str(len(text.encode()) + endpoint.missing))
                self.end_headers()
                self.wfile.write(text.encode())
                self.close_connection = bool(endpoint.missing)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def says(self, *answers):
        self.answers = [_completion(answer) if isinstance(answer, str) else answer for answer in answers]

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def _completion(content, usage=(1000, 100), finish="stop", refusal=None, logprobs=None):
    message = {"role": "assistant", "content": content, "refusal": refusal}
    choice = {"index": 0, "finish_reason": finish, "message": message, "logprobs": logprobs}
    body = {"id": "c", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
    if usage:
        body["usage"] = dict(zip(("prompt_tokens", "completion_tokens"), usage, strict=True)) | {"total_tokens": 0}
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
    return judge.grade(text, BRIEF, CRITERIA)


def grade_rows(judge, rows, **options):
    return grade_all(judge, rows, CRITERIA, briefs=[BRIEF], **options)


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
    assert BRIEF.prompt in sent["body"]["messages"][1]["content"]
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


@pytest.mark.parametrize("score", [0, 11, 7.5, "good", None, [], {}, True])
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


@pytest.mark.parametrize(
    ("unknown", "asked_with"),
    [("logprobs", [True, True, True]), ("response_format", [True, True, False, False])],
)
def test_a_server_that_knows_less_is_asked_for_less(endpoint, judge, unknown, asked_with):
    """Gemini's compatible endpoint refuses log-probabilities, and old servers a JSON schema."""
    endpoint.says(lambda body: _error(400, f"{unknown} is not supported") if unknown in body else _completion(GOOD))
    assert states(grade(judge)) == [("scored", 7.0), ("scored", 9.0)]
    grade(judge, "another")
    assert ["response_format" in request["body"] for request in endpoint.requests] == asked_with


def test_a_question_that_is_refused_in_every_form_is_failed_and_teaches_nothing(endpoint, judge):
    """A text too long for the context is refused too, and the next one may still be asked with the schema."""
    endpoint.says(_error(400, "too long"), _error(400, "too long"), _error(400, "too long"), GOOD)
    assert "too long" in grade(judge)[0].reason
    assert states(grade(judge, "shorter")) == [("scored", 7.0), ("scored", 9.0)]
    assert "response_format" in endpoint.requests[-1]["body"]


def test_a_wrong_key_is_told_once_and_appears_nowhere(endpoint, judge, caplog):
    """OpenAI's own error message repeats the key; it once went into the ledger with the reason."""
    endpoint.says(_error(401, f"Incorrect API key provided: {KEY}."))
    rows = grade_rows(judge, [RESPONSE, RESPONSE | {"seed": 2}])
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
    assert (
        f"{endpoint.url.removesuffix('/v1')} answers, but not as" in scores[0].reason or "no JSON" in scores[0].reason
    )


def test_an_endpoint_that_is_down_is_not_asked_a_hundred_times(tmp_path):
    judge = Judge("m", "http://127.0.0.1:9/v1", KEY, cache=tmp_path, max_retries=0, timeout=2)
    rows = grade_rows(judge, [RESPONSE | {"seed": n} for n in range(20)])
    assert {row["status"] for row in rows} == {"failed"}
    assert "APIConnectionError" in rows[0]["reason"]
    assert "not asked" in rows[-1]["reason"]
    assert tally(rows) == "0 of 40 scored, 40 failed"


def test_a_second_run_goes_on_where_the_first_stopped(endpoint, judge, tmp_path):
    endpoint.says(GOOD, "prose", GOOD)
    assert tally(grade_rows(judge, [RESPONSE, RESPONSE | {"text": "other"}])) == "2 of 4 scored, 2 unparsable"
    again = Judge("m", endpoint.url, KEY, cache=tmp_path / "cache")
    assert tally(grade_rows(again, [RESPONSE, RESPONSE | {"text": "other"}])) == "4 of 4 scored"
    assert len(endpoint.requests) == 3


@pytest.mark.parametrize("change", [{"text": "x"}, {"prompt": "x"}, {"criteria": {"fluency": "other anchors"}}])
def test_a_changed_text_brief_or_rubric_is_judged_anew(endpoint, judge, change):
    endpoint.says(GOOD)
    judge.grade("t", BRIEF, CRITERIA)
    brief = replace(BRIEF, prompt=change.get("prompt", BRIEF.prompt))
    judge.grade(change.get("text", "t"), brief, change.get("criteria", CRITERIA))
    assert len(endpoint.requests) == 2


def test_verdict_rows_are_what_the_ledger_takes(endpoint, judge, tmp_path):
    from lekhai_helpers.core.ledger import Ledger

    endpoint.says(GOOD)
    lines = []
    rows = grade_rows(judge, [RESPONSE], progress=lines.append)
    assert lines == ["1 of 1 texts, 2 of 2 scored"]
    with Ledger(tmp_path / "l.db", experiment="e", recipe="r", profile="p", settings="{}") as ledger:
        facts = {"industry": "চা", "tone": "শান্ত", "ok": True, "problems": [], "facts": {}}
        ledger.add_responses("sft", [RESPONSE | facts | {"tokens": 9, "seconds": 1.0, "stopped": True}])
        ledger.add_verdicts(judge.model, rows)
        assert list(ledger.verdicts()["score"]) == [7.0, 9.0]
        assert tally(ledger.verdicts()) == "2 of 2 scored"
        assert tally(grade_rows(judge, ledger.responses())) == "2 of 2 scored"


# --- configuration


@pytest.fixture
def environment(monkeypatch, tmp_path):
    for name in ("LEKHAI_JUDGE_KEY", "LEKHAI_JUDGE_URL", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LEKHAI_CACHE", str(tmp_path))
    return monkeypatch


def test_no_key_and_no_address_is_no_judge(environment):
    assert configured(SETTINGS) is None
    environment.setenv("OPENAI_API_KEY", "  ")
    assert configured(SETTINGS) is None
    with pytest.raises(JudgeError, match="LEKHAI_JUDGE_URL"):
        required(SETTINGS)


def test_a_key_alone_means_openai(environment):
    environment.setenv("OPENAI_API_KEY", KEY)
    judge = configured(SETTINGS.model_copy(update={"prices": {"gpt-4o": [2.5, 10.0]}}))
    assert (judge.model, judge.base_url, judge.api_key) == ("gpt-4o", "https://api.openai.com/v1", KEY)
    assert judge.price == (2.5, 10.0) and judge.family == "openai"


def test_an_openai_key_is_never_sent_to_another_address(environment):
    environment.setenv("OPENAI_API_KEY", KEY)
    environment.setenv("LEKHAI_JUDGE_URL", "http://localhost:8080/v1")
    assert configured(SETTINGS).api_key == "no-key"
    environment.setenv("LEKHAI_JUDGE_KEY", "own")
    assert configured(SETTINGS).api_key == "own"


# --- a slow, broken or refusing endpoint


def test_a_slow_endpoint_is_not_waited_for(endpoint, tmp_path):
    endpoint.says(GOOD)
    endpoint.delay = 0.6
    judge = Judge("m", endpoint.url, KEY, cache=tmp_path, max_retries=0, timeout=0.2)
    scores = grade(judge)
    assert states(scores) == [("failed", None)] * 2
    assert "APITimeoutError" in scores[0].reason and "no answer within 0.2 seconds" in scores[0].reason
    endpoint.delay = 0
    assert states(grade(judge)) == [("scored", 7.0), ("scored", 9.0)]


def test_an_answer_that_breaks_off_is_failed(endpoint, judge):
    endpoint.says(GOOD)
    endpoint.missing = 50
    scores = grade(judge)
    assert states(scores) == [("failed", None)] * 2
    assert "broke off" in scores[0].reason


def test_half_a_json_says_that_it_was_cut_off(endpoint, judge):
    endpoint.says(_completion(GOOD[:40], finish="length"))
    assert [score.reason for score in grade(judge)] == ["the reply was cut off at its greatest length"] * 2


def test_a_refusal_is_unparsable_and_told(endpoint, judge):
    endpoint.says(_completion(None, refusal="I cannot help with that."))
    scores = grade(judge)
    assert states(scores) == [("unparsable", None)] * 2
    assert scores[0].reason == "the model refused: I cannot help with that."


def test_what_was_scored_before_the_endpoint_went_down_is_not_asked_again(endpoint, judge, tmp_path):
    """The second run asks only what the first has no answer to: the requests are counted."""
    texts = [RESPONSE | {"seed": n, "text": f"text {n}"} for n in range(8)]
    endpoint.says(GOOD, GOOD, GOOD, _error(401))
    assert tally(grade_rows(judge, texts)) == "6 of 16 scored, 10 failed"
    assert len(endpoint.requests) == 4
    endpoint.says(GOOD)
    again = Judge("m", endpoint.url, KEY, cache=tmp_path / "cache")
    assert tally(grade_rows(again, texts)) == "16 of 16 scored"
    assert len(endpoint.requests) == 4 + 5
    assert (again.usage.calls, again.usage.cached) == (5, 3)


@pytest.mark.parametrize("left", [b"", b"{", b"null", b"[]", b'{"reply": 1}', b'{"reply": "{}"}', b"\xff"])
def test_a_damaged_file_in_the_cache_costs_one_call(endpoint, judge, left):
    endpoint.says(GOOD)
    grade(judge)
    next(judge.cache.iterdir()).write_bytes(left)
    assert states(grade(judge)) == [("scored", 7.0), ("scored", 9.0)]
    assert len(endpoint.requests) == 2


def test_a_local_server_at_another_port_finds_its_answers_again(endpoint, tmp_path):
    endpoint.says(GOOD)
    for port in (1, 2):
        judge = Judge("m", endpoint.url + "/" * port, KEY, cache=tmp_path, identity="weights of today")
        assert states(grade(judge)) == [("scored", 7.0), ("scored", 9.0)]
    assert len(endpoint.requests) == 1


def test_scores_of_a_partly_broken_reply_are_kept_for_a_worse_day(endpoint, tmp_path):
    """The endpoint went down before the second run, and what the first had scored was failed again."""
    half = json.dumps({"fluency": {"reason": "x", "score": 7}, "tone": {"reason": "y", "score": "good"}})
    endpoint.says(half, "prose", _error(500), GOOD)

    def again():
        return states(grade(Judge("m", endpoint.url, KEY, cache=tmp_path, max_retries=0)))

    assert again() == [("scored", 7.0), ("unparsable", None)]
    assert again() == [("scored", 7.0), ("unparsable", None)]
    assert again() == [("scored", 7.0), ("failed", None)]
    assert again() == again() == [("scored", 7.0), ("scored", 9.0)]
    assert len(endpoint.requests) == 4


# --- nothing raises


def _changed(**parts):
    """Return a good completion with parts of it replaced: of the body, of its choice, of its message."""
    status, text, kind = _completion(GOOD)
    body = json.loads(text)
    for where in (body, body["choices"][0], body["choices"][0]["message"]):
        where |= {name: value for name, value in parts.items() if name in where}
    return status, json.dumps(body), kind


@pytest.mark.parametrize("usage", [{}, None, {"prompt_tokens": None, "completion_tokens": "9"}, 7, []])
def test_an_odd_count_of_tokens_is_no_count(endpoint, tmp_path, usage):
    """With "usage": {} the judge multiplied None by a price."""
    endpoint.says(_changed(usage=usage))
    judge = Judge("m", endpoint.url, KEY, price=(1.0, 1.0))
    assert states(grade(judge)) == [("scored", 7.0), ("scored", 9.0)]
    assert judge.usage.cost is None


@pytest.mark.parametrize(
    "parts", [{"content": [{"text": "x"}]}, {"message": None}, {"message": "x"}, {"choices": [None]}, {"choices": "x"}]
)
def test_a_reply_of_another_shape_is_failed_and_told(endpoint, judge, parts):
    endpoint.says(_changed(**parts))
    scores = grade(judge)
    assert states(scores) == [("failed", None)] * 2 and "OpenAI-compatible API" in scores[0].reason


@pytest.mark.parametrize(
    "content",
    [
        [{"token": "8"}],
        [{"token": "8", "logprob": None, "bytes": None, "top_logprobs": []}],
        [{"token": "8", "logprob": float("nan"), "bytes": None, "top_logprobs": []}],
        [{"token": "8", "logprob": 1e9, "bytes": None, "top_logprobs": []}],
        [{"token": "8", "logprob": 0.0, "bytes": [999], "top_logprobs": []}],
        [None],
        "8",
    ],
)
def test_odd_log_probabilities_leave_the_number_written(endpoint, judge, content):
    endpoint.says(_changed(logprobs={"content": content, "refusal": None}))
    assert [(score.score, score.how) for score in grade(judge)] == [(7.0, "written"), (9.0, "written")]


@pytest.mark.parametrize(
    "address",
    [
        "http://[bad/v1",
        "http://127.0.0.1:999999/v1",
        "http://a\x00b/v1",
        "not an address",
        "http://u:secret@127.0.0.1:9/v1",
    ],
)
def test_an_address_that_is_none_is_failed_and_shows_no_password(address):
    scores = grade(Judge("m", address, KEY, max_retries=0, timeout=2))
    assert states(scores) == [("failed", None)] * 2
    assert "address" in scores[0].reason and "secret" not in scores[0].reason


@pytest.mark.parametrize("key", ["চাবি-গোপন-১২৩", "sk-two\nlines"])
def test_a_key_of_odd_letters_is_failed_told_and_not_shown(endpoint, key):
    endpoint.says(GOOD)
    scores = grade(Judge("m", endpoint.url, key))
    assert states(scores) == [("failed", None)] * 2
    assert "the key holds letters that no key has" in scores[0].reason and key not in scores[0].reason
    assert not endpoint.requests


def test_half_a_character_in_a_text_is_a_verdict(endpoint, judge):
    endpoint.says(GOOD)
    assert len(grade(judge, "ক\ud800")) == 2
    assert states(grade(judge)) == [("scored", 7.0), ("scored", 9.0)]


@pytest.mark.parametrize("key", ["1", "score", "no-key"])
def test_a_short_key_changes_no_reply(endpoint, key):
    """With the key "1" a ten was read as ***0."""
    endpoint.says(GOOD.replace("9", "10"))
    assert states(grade(Judge("m", endpoint.url, key))) == [("scored", 7.0), ("scored", 10.0)]


def test_a_long_key_is_taken_out_of_reasons_and_not_out_of_what_is_read(endpoint):
    endpoint.says(GOOD)
    scores = grade(Judge("m", endpoint.url, '"score": 9'))
    assert states(scores) == [("scored", 7.0), ("scored", 9.0)]


def test_a_text_that_is_refused_says_nothing_of_the_endpoint(endpoint, judge):
    """Three texts that a content filter did not like in a row ended the grading of all others."""
    endpoint.says(*[_error(400, "content filter")] * 12, GOOD)
    rows = grade_rows(judge, [RESPONSE | {"seed": n, "text": f"text {n}"} for n in range(6)])
    assert tally(rows) == "4 of 12 scored, 8 failed"
    assert "content filter" in rows[0]["reason"]


# --- two texts


@pytest.mark.parametrize(
    ("better", "choice"), [("A", "first"), ("b", "second"), (" tie ", "tie"), ("C", "unparsable"), (1, "unparsable")]
)
def test_a_comparison_is_read(endpoint, judge, better, choice):
    endpoint.says(json.dumps({"reason": "ছন্দ", "better": better}))
    assert judge.compare("one", "two", BRIEF) == choice
    schema = endpoint.requests[0]["body"]["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["better"]["enum"] == ["A", "B", "tie"]


def test_both_orders_are_asked_and_kept(endpoint, judge):
    endpoint.says(json.dumps({"reason": "", "better": "A"}))
    for _ in range(2):
        assert pairwise(judge, "one", "two", BRIEF).flipped
    assert len(endpoint.requests) == 2


def test_a_failed_comparison_says_why(endpoint, judge):
    endpoint.says(_error(401))
    assert judge.compare("one", "two", BRIEF) == "failed"
    assert "check key" in judge.trouble
    endpoint.says("prose")
    other = Judge("m", endpoint.url, KEY)
    assert other.compare("one", "two", BRIEF) == "unparsable"
    assert "neither A, B nor tie" in other.trouble


# --- tokens, cost, budget


def test_tokens_and_cost_are_counted(endpoint, tmp_path):
    endpoint.says(GOOD)
    judge = Judge("m", endpoint.url, KEY, cache=tmp_path, price=(2.0, 10.0))
    for _ in range(2):
        grade(judge)
    assert judge.usage.cost == pytest.approx(1000 * 2e-6 + 100 * 10e-6)
    assert (judge.usage.tokens_read, judge.usage.tokens_written) == (1000, 100)
    assert judge.usage.sentence == (
        "1 calls and 1 answers from the cache; 1,000 tokens read, 100 written; 0.0030 US dollars"
    )


def test_an_unknown_price_still_counts_tokens(endpoint, judge):
    endpoint.says(GOOD)
    grade(judge)
    assert judge.usage.cost is None and judge.usage.tokens_read == 1000
    assert "cost not known" in judge.usage.sentence


def test_a_budget_in_calls_stops_cleanly_and_the_second_run_goes_on(endpoint, tmp_path):
    texts = [RESPONSE | {"seed": n, "text": f"text {n}"} for n in range(5)]
    endpoint.says(GOOD)
    rows = grade_rows(Judge("m", endpoint.url, KEY, cache=tmp_path, max_calls=3), texts)
    assert tally(rows) == "6 of 10 scored, 4 failed"
    assert rows[-1]["reason"].startswith("not asked: the budget of 3 calls is used up")
    assert tally(grade_rows(Judge("m", endpoint.url, KEY, cache=tmp_path, max_calls=3), texts)) == "10 of 10 scored"
    assert len(endpoint.requests) == 5


def test_a_budget_in_dollars_is_not_passed(endpoint, tmp_path):
    """A call costs 0.003 dollars here; the fourth would go beyond a cent."""
    endpoint.says(GOOD)
    judge = Judge("m", endpoint.url, KEY, cache=tmp_path, price=(2.0, 10.0), budget_usd=0.01)
    rows = grade_rows(judge, [RESPONSE | {"seed": n, "text": f"text {n}"} for n in range(6)])
    assert judge.usage.calls == 3 and judge.usage.cost <= 0.01
    assert "budget of 0.01 US dollars" in rows[-1]["reason"]


def test_tries_are_counted_and_one_without_an_answer_is_charged_like_the_dearest_call(endpoint, tmp_path):
    """The endpoint worked on it and sends its bill, though we no longer waited."""
    endpoint.says(GOOD)
    judge = Judge("m", endpoint.url, KEY, max_retries=1, timeout=0.5, price=(2.0, 10.0), budget_usd=0.0125)
    grade(judge)
    endpoint.delay = 1
    assert "APITimeoutError" in grade(judge, "slow")[0].reason
    assert (judge.usage.calls, judge.usage.tries) == (2, 3)
    assert judge.usage.cost == pytest.approx(3 * 0.003)
    assert "2 calls (3 tries) and 0 answers" in judge.usage.sentence
    endpoint.delay = 0
    grade(judge, "another")
    assert "budget of 0.0125 US dollars is used up, 0.0120 are spent" in grade(judge, "one more")[0].reason


def test_a_try_that_was_answered_with_busy_costs_nothing_and_counts_as_a_call(endpoint, tmp_path):
    endpoint.says(_error(429), GOOD)
    judge = Judge("m", endpoint.url, KEY, price=(2.0, 10.0), max_calls=2)
    grade(judge)
    assert (judge.usage.tries, judge.usage.cost) == (2, pytest.approx(0.003))
    assert "the budget of 2 calls is used up" in grade(judge, "another")[0].reason


def test_no_second_call_is_made_before_the_cost_of_the_first_is_known(endpoint):
    """Four first calls sent together spent twice the budget before anybody knew what one costs."""
    endpoint.says(GOOD)
    endpoint.delay = 0.05
    judge = Judge("m", endpoint.url, KEY, price=(2.0, 10.0), budget_usd=0.0065)
    rows = grade_rows(judge, [RESPONSE | {"seed": n, "text": f"text {n}"} for n in range(8)], concurrency=4)
    assert len(endpoint.requests) == 2 and judge.usage.cost <= 0.0065
    assert tally(rows) == "4 of 16 scored, 12 failed"


def test_a_first_call_that_fails_lets_the_next_one_go(endpoint):
    endpoint.says(_error(401))
    judge = Judge("m", endpoint.url, KEY, price=(2.0, 10.0), budget_usd=1.0)
    rows = grade_rows(judge, [RESPONSE | {"seed": n, "text": f"text {n}"} for n in range(4)], concurrency=4)
    assert tally(rows) == "0 of 8 scored, 8 failed" and len(endpoint.requests) == 1


def test_a_budget_in_dollars_needs_a_price_and_an_endpoint_that_counts(endpoint, tmp_path):
    with pytest.raises(JudgeError, match="judge.prices"):
        Judge("m", endpoint.url, KEY, budget_usd=1.0)
    endpoint.says(_completion(GOOD, usage=None))
    judge = Judge("m", endpoint.url, KEY, price=(1.0, 1.0), budget_usd=1.0)
    assert states(grade(judge)) == [("scored", 7.0), ("scored", 9.0)]
    assert "does not say how many tokens" in grade(judge, "another")[0].reason


def test_calls_at_once_keep_the_budget_the_order_and_the_cache(endpoint, tmp_path):
    endpoint.says(GOOD)
    endpoint.delay = 0.02
    judge = Judge("m", endpoint.url, KEY, cache=tmp_path, max_calls=10)
    rows = grade_rows(judge, [RESPONSE | {"seed": n, "text": f"t{n % 12}"} for n in range(24)], concurrency=4)
    assert len(endpoint.requests) == judge.usage.calls == 10
    assert [row["seed"] for row in rows] == [n for n in range(24) for _ in CRITERIA]


def test_two_threads_may_keep_the_same_answer(endpoint, judge):
    """Both once wrote the same file beside its final name, and the second found nothing to rename."""
    endpoint.says(GOOD)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: states(grade(judge)), range(8)))
    assert found == [[("scored", 7.0), ("scored", 9.0)]] * 8


# --- the expectation over score tokens


def test_a_score_is_the_expectation_where_log_probabilities_come(endpoint, judge):
    from math import log

    reply = '{"fluency": {"reason": "x", "score": 8}, "tone": {"reason": "y", "score": 9}}'
    first, second = reply.split("8")
    tokens = [
        {"token": first, "logprob": 0.0, "bytes": None, "top_logprobs": []},
        {
            "token": "8",
            "logprob": log(0.6),
            "bytes": None,
            "top_logprobs": [{"token": t, "logprob": log(p), "bytes": None} for t, p in (("8", 0.6), ("6", 0.2))],
        },
        {"token": second, "logprob": 0.0, "bytes": None, "top_logprobs": []},
    ]
    endpoint.says(_completion(reply, logprobs={"content": tokens, "refusal": None}))
    for _ in range(2):  # the second time from the cache
        fluency, tone = grade(judge)
        assert (fluency.score, fluency.how) == (7.5, "expectation")
        assert (tone.score, tone.how) == (9.0, "written")  # its token holds more than the number
    assert len(endpoint.requests) == 1
