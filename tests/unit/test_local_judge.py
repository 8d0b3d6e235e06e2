"""The local judge: the same client with short words and examples, asked over HTTP; the server is a stand-in."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lekhai_helpers.core.recipe import resolve
from lekhai_helpers.measure import local_judge as local_judge_module
from lekhai_helpers.measure.judge import pairwise
from lekhai_helpers.measure.local_judge import local_judge, local_wording
from lekhai_helpers.prepare.contracts.ad_script import check
from lekhai_helpers.prepare.dataset import Brief

JUDGE = resolve("lekhai", "cpu").judge
CRITERIA = JUDGE.criteria
BRIEF = Brief("b", "চা", "শান্ত", 15, "ধোঁয়াতলা", "চা", "ধোঁয়াতলা চায়ের ছবি")
SCRIPT = "| Visual | Audio |\n|---|---|\n| চা | ভিও: চা |"


@pytest.fixture
def server():
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.server.requests.append(body)
            wanted = body["response_format"]["json_schema"]["schema"]["properties"]
            answer = {"better": "A"} if "better" in wanted else {name: {"score": 4} for name in wanted}
            choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant"}}
            choice["message"]["content"] = json.dumps(answer)
            reply = {"id": "c", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(reply).encode())

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.requests = []
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def judge_at(server, cache=None, weights="sum-1"):
    return local_judge(f"http://127.0.0.1:{server.server_port}", "gemma-3-270m", weights, JUDGE, cache)


def test_it_is_a_judge_like_any_other_and_says_its_family(server):
    judge = judge_at(server)
    scores = judge.grade(SCRIPT, BRIEF, CRITERIA)
    assert [(score.criterion, score.status, score.score) for score in scores] == [(n, "scored", 4.0) for n in CRITERIA]
    assert judge.name == "gemma-3-270m" and judge.family == "google"


def test_a_judge_that_always_says_the_first_ends_in_a_tie(server):
    verdict = pairwise(judge_at(server), SCRIPT, "খারাপ", BRIEF)
    assert verdict.winner == "tie" and verdict.flipped


def test_no_reason_is_asked_for_and_the_answer_is_short(server):
    """A small model that had to give a reason wrote on until its room was full, and no score came."""
    judge = judge_at(server)
    judge.grade(SCRIPT, BRIEF, CRITERIA)
    judge.compare(SCRIPT, SCRIPT, BRIEF)
    for request in server.requests:
        assert "reason" not in json.dumps(request["response_format"])
        assert request["max_tokens"] <= 200 and request["temperature"] == 0
    grades = server.requests[0]["response_format"]["json_schema"]["schema"]
    assert grades["required"] == list(CRITERIA)
    assert grades["properties"]["fluency"]["properties"]["score"]["maximum"] == 10


def test_a_second_run_on_another_port_asks_nothing_again(server, tmp_path):
    judge_at(server, tmp_path).grade(SCRIPT, BRIEF, CRITERIA)
    elsewhere = local_judge("http://127.0.0.1:9/v1", "gemma-3-270m", "sum-1", JUDGE, tmp_path)
    assert all(score.status == "scored" for score in elsewhere.grade(SCRIPT, BRIEF, CRITERIA))
    judge_at(server, tmp_path, weights="sum-2").grade(SCRIPT, BRIEF, CRITERIA)
    assert len(server.requests) == 2


def test_an_answer_is_kept_under_the_form_that_was_sent(server, tmp_path, monkeypatch):
    """It was kept under the form with reasons, which is never sent: a change of the one really sent went unseen."""
    judge_at(server, tmp_path).grade(SCRIPT, BRIEF, CRITERIA)
    monkeypatch.setattr(local_judge_module, "_without_reasons", lambda schema: {**schema, "title": "another form"})
    judge_at(server, tmp_path).grade(SCRIPT, BRIEF, CRITERIA)
    assert len(server.requests) == 2
    assert server.requests[1]["response_format"]["json_schema"]["schema"]["title"] == "another form"


def test_a_server_that_is_gone_is_a_failed_verdict():
    scores = local_judge("http://127.0.0.1:9", "gemma-3-270m", "w", JUDGE).grade(SCRIPT, BRIEF, CRITERIA)
    assert {score.status for score in scores} == {"failed"}


def test_the_examples_use_the_scale_and_each_side():
    wording = local_wording(JUDGE)
    answers = [json.loads(m["content"]) for m in wording.grading_examples if m["role"] == "assistant"]
    assert all(list(answer) == list(CRITERIA) for answer in answers)
    marks = {part["score"] for answer in answers for part in answer.values()}
    assert min(marks) == 1 and max(marks) >= 9 and len(marks) >= 5
    better = [json.loads(m["content"])["better"] for m in wording.comparing_examples if m["role"] == "assistant"]
    assert sorted(better) == ["A", "B", "tie"]


def test_the_good_example_is_a_good_script_and_the_broken_one_is_not():
    questions = [json.loads(m["content"]) for m in local_wording(JUDGE).grading_examples if m["role"] == "user"]
    assert [check(question["script"]).ok for question in questions] == [True, False, True]


def test_the_rubric_of_the_recipe_is_in_the_question(server):
    judge_at(server).grade(SCRIPT, BRIEF, CRITERIA)
    system = server.requests[0]["messages"][0]["content"]
    assert all(f"- {name}: {anchors}" in system for name, anchors in CRITERIA.items())
