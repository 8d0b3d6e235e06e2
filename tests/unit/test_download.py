"""Downloads on request: robots.txt obeyed, pauses kept, nothing fetched twice, nothing of the user's overwritten."""

from email.utils import formatdate

import httpx
import pytest

from lekhai_helpers.prepare import download
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


def test_a_delay_of_an_hour_is_no_delay_but_a_refusal(tmp_path):
    host = Host(tmp_path, **{"/robots.txt": robots("User-agent: *\nCrawl-delay: 3600")})
    with pytest.raises(DownloadError, match="asks to wait 3600 seconds before /76.txt"):
        host.downloader.fetch(URL)
    assert host.waited == []


def test_a_host_too_busy_to_give_its_rules_is_left_alone(tmp_path):
    host = Host(tmp_path, **{"/robots.txt": httpx.Response(429), "/76.txt": httpx.Response(200, text="x")})
    with pytest.raises(DownloadError, match="asks programs not to fetch"):
        host.downloader.fetch(URL)


def moved(path: str) -> httpx.Response:
    return httpx.Response(301, headers={"Location": path})


def test_rules_that_have_moved_are_followed_and_obeyed(tmp_path):
    rules = {f"/{n}": moved(f"https://books.example.org/{n + 1}") for n in range(1, 5)}
    rules |= {"/robots.txt": moved("/1"), "/5": robots("User-agent: *\nDisallow: /76.txt")}
    host = Host(tmp_path, **rules, **{"/75.txt": httpx.Response(200, text="x")})
    host.downloader.fetch(URL.replace("76", "75"))
    assert host.paths() == ["/robots.txt", "/1", "/2", "/3", "/4", "/5", "/75.txt"]
    with pytest.raises(DownloadError, match="asks programs not to fetch"):
        host.downloader.fetch(URL)


@pytest.mark.parametrize("where", ["/robots.txt", "http://books.example.org/rules"])
def test_rules_that_move_without_end_or_to_an_open_line_forbid_all(tmp_path, where):
    host = Host(tmp_path, **{"/robots.txt": moved(where), "/76.txt": httpx.Response(200, text="x")})
    with pytest.raises(DownloadError, match="asks programs not to fetch"):
        host.downloader.fetch(URL)
    assert len(host.asked) <= 6


NOW = 1_700_000_000.0  # seconds; a date in Retry-After is held against the clock on the wall


@pytest.fixture
def noon(monkeypatch):
    monkeypatch.setattr(download.time, "time", lambda: NOW)


@pytest.mark.parametrize("asked", ["86400", formatdate(NOW + 86_400, usegmt=True)])
def test_a_wait_of_a_day_is_said_and_not_slept(tmp_path, asked, noon):
    host = Host(tmp_path, **{"/76.txt": httpx.Response(429, headers={"Retry-After": asked})})
    with pytest.raises(DownloadError, match="asks to wait 86400 seconds before /76.txt: try again then"):
        host.downloader.fetch(URL)
    assert max(host.waited) == 5.0


@pytest.mark.parametrize(("asked", "waited"), [(40, 40.0), (-40, 5.0)])
def test_a_wait_until_a_date_is_understood(tmp_path, asked, waited, noon):
    busy = httpx.Response(503, headers={"Retry-After": formatdate(NOW + asked, usegmt=True)})
    host = Host(tmp_path, **{"/76.txt": [busy, httpx.Response(200, text="x")]})
    host.downloader.fetch(URL)
    assert host.waited[1] == waited


def test_after_the_last_try_nobody_waits(tmp_path):
    busy = httpx.Response(429, headers={"Retry-After": "soon"})
    host = Host(tmp_path, **{"/76.txt": [busy, busy, busy]})
    with pytest.raises(DownloadError, match="answers 429"):
        host.downloader.fetch(URL)
    assert host.waited == [5.0, 30.0, 30.0]


def test_a_file_without_end_is_stopped_on_the_way(tmp_path, monkeypatch):
    given = []

    def pieces():
        for number in range(1_000):
            given.append(number)
            yield b"x" * 1_000

    monkeypatch.setattr(download, "LARGEST", 10_000)
    host = Host(tmp_path, **{"/76.txt": httpx.Response(200, content=pieces())})
    with pytest.raises(DownloadError, match="is larger than"):
        host.downloader.fetch(URL)
    assert len(given) < 20


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
        (httpx.Response(200, html="<p>Please log in to the hotel."), "answers with a web page in place of a file"),
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


def test_a_copy_that_is_stopped_leaves_no_half_a_book(tmp_path, monkeypatch):
    """The next run would have taken the half for the user's own edition and kept it."""

    def stopped(source, target):
        target.write_bytes(b"half")
        raise KeyboardInterrupt

    host = Host(tmp_path, **{"/cache/epub/76/pg76.txt": httpx.Response(200, text="It rained.")})
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(download.shutil, "copyfile", stopped)
        fetch_twainbot(tmp_path / "mine", host.downloader, books=(76,), headlines=None)
    assert list((tmp_path / "mine").iterdir()) == []
    fetch_twainbot(tmp_path / "mine", host.downloader, books=(76,), headlines=None)
    assert (tmp_path / "mine" / "pg76.txt").read_text() == "It rained."
