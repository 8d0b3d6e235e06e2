"""Downloads on request: robots.txt obeyed, pauses kept, nothing fetched twice, nothing of the user's overwritten."""

import httpx
import pytest

from lekhai_helpers.prepare.download import AGENT, Downloader, DownloadError, fetch_twainbot

URL = "https://books.example.org/76.txt"


class Host:
    """A host that answers by path and a clock that only moves when somebody waits."""

    def __init__(self, tmp_path, **replies):
        self.replies, self.asked, self.now, self.waited = replies, [], 0.0, []
        self.downloader = Downloader(
            tmp_path / "cache", transport=httpx.MockTransport(self.answer), sleep=self.sleep, clock=lambda: self.now
        )

    def sleep(self, seconds):
        self.waited.append(seconds)
        self.now += seconds

    def answer(self, request):
        self.asked.append(request)
        reply = self.replies.get(request.url.path, httpx.Response(404))
        if isinstance(reply, list):
            reply = reply.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def paths(self):
        return [request.url.path for request in self.asked]


def robots(text: str) -> httpx.Response:
    return httpx.Response(200, text=text)


def test_a_file_is_fetched_once_with_our_name_and_a_pause(tmp_path):
    host = Host(tmp_path, **{"/76.txt": httpx.Response(200, text="It rained.")})
    first, again = host.downloader.fetch(URL), host.downloader.fetch(URL)
    assert first == again and first.read_text() == "It rained."
    assert host.paths() == ["/robots.txt", "/76.txt"] and host.waited == [5.0]
    assert all(request.headers["User-Agent"] == AGENT for request in host.asked)
    assert not list(first.parent.glob("*.part"))


def test_a_host_that_says_no_is_not_asked(tmp_path):
    host = Host(tmp_path, **{"/robots.txt": robots("User-agent: *\nDisallow: /76")})
    with pytest.raises(DownloadError, match="asks programs not to fetch /76.txt: download it in a browser"):
        host.downloader.fetch(URL)
    assert host.paths() == ["/robots.txt"]


def test_a_longer_delay_that_the_host_asks_for_is_kept(tmp_path):
    host = Host(
        tmp_path, **{"/robots.txt": robots("User-agent: *\nCrawl-delay: 30"), "/76.txt": httpx.Response(200, text="x")}
    )
    host.downloader.fetch(URL)
    assert host.waited == [30.0]


def test_a_host_whose_rules_cannot_be_read_is_left_alone(tmp_path):
    host = Host(tmp_path, **{"/robots.txt": httpx.Response(500), "/76.txt": httpx.Response(200, text="x")})
    with pytest.raises(DownloadError, match="asks programs not to fetch"):
        host.downloader.fetch(URL)


def test_too_many_requests_are_waited_out_as_long_as_asked(tmp_path):
    busy = httpx.Response(429, headers={"Retry-After": "40"})
    host = Host(tmp_path, **{"/76.txt": [busy, httpx.Response(200, text="x")]})
    host.downloader.fetch(URL)
    assert 40.0 in host.waited


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (httpx.Response(404), "answers 404"),
        (httpx.Response(302, headers={"Location": "http://elsewhere.example.org"}), "answers 302"),
        (httpx.Response(200, content=b""), "is empty"),
        (httpx.ConnectError("no route"), r"cannot be reached \(ConnectError\)"),
    ],
)
def test_a_file_that_cannot_be_had_says_why_and_leaves_nothing(tmp_path, reply, said):
    host = Host(tmp_path, **{"/76.txt": reply})
    with pytest.raises(DownloadError, match=said):
        host.downloader.fetch(URL)
    assert not list((tmp_path / "cache").rglob("*.txt*"))


@pytest.mark.parametrize("url", ["http://example.org/a.txt", "file:///etc/passwd", "pg76"])
def test_only_whole_https_addresses_are_fetched(tmp_path, url):
    with pytest.raises(DownloadError, match="no https address"):
        Host(tmp_path).downloader.fetch(url)


def test_a_file_that_is_there_already_stays_as_it_is(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "pg76.txt").write_text("my own edition")
    host = Host(tmp_path, **{"/cache/epub/74/pg74.txt": httpx.Response(200, text="Tom!")})
    written = fetch_twainbot(folder, host.downloader, books=(76, 74), headlines=None)
    assert [path.name for path in written] == ["pg74.txt", "tool_conversations.jsonl"]
    assert (folder / "pg76.txt").read_text() == "my own edition"
    assert fetch_twainbot(folder, host.downloader, books=(76, 74), headlines=None) == []
