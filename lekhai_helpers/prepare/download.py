"""Public files fetched on request and politely: robots.txt is obeyed, requests are slow, nothing is fetched twice.

``Downloader(cache).fetch(url)`` gives the path of the file in the cache; ``fetch_twainbot(folder)`` puts the books and
the headlines of the recipe twainbot into a folder of its own. Nothing in the chain downloads by itself.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit
from urllib.robotparser import RobotFileParser

from lekhai_helpers.core.recipe import data_file

if TYPE_CHECKING:
    import httpx

AGENT = "LekhAI (a study project; fetches single files on request)"
PAUSE_SECONDS = 5.0
LARGEST = 50_000_000  # bytes; a complete edition of Twain is 16 million
TRIES = 3
LONGEST_WAIT = 120.0  # seconds; who is asked to wait longer had better come back another day
REDIRECTS = 5  # of robots.txt, as RFC 9309 asks
# Project Gutenberg asks programs to use a mirror, not the pages people read.
BOOK_URL = "https://gutenberg.pglaf.org/cache/epub/{number}/pg{number}.txt"
BOOKS = {
    76: "Adventures of Huckleberry Finn",
    74: "The Adventures of Tom Sawyer",
    119: "A Tramp Abroad",
    245: "Life on the Mississippi",
    20203: "Autobiography of Benjamin Franklin",
}
HEADLINES_URL = "https://raw.githubusercontent.com/dawngraham/reddit-theonion/master/data/TheOnion_181217_184244.csv"


class DownloadError(RuntimeError):
    """A file cannot be fetched; the text says why and what to do instead."""


@dataclass
class Downloader:
    """Fetches single files into `cache`, one host at a time, with `pause_seconds` between two requests to it.

    `transport`, `sleep` and `clock` are for tests. A host's robots.txt is read once, and its Crawl-delay kept where it
    is longer than ours.
    """

    cache: Path
    pause_seconds: float = PAUSE_SECONDS
    transport: httpx.BaseTransport | None = None
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    _robots: dict[str, RobotFileParser] = field(default_factory=dict)
    _last: dict[str, float] = field(default_factory=dict)

    def fetch(self, url: str) -> Path:
        """Return the file behind a URL, from the cache where it is there already.

        Raises DownloadError where the address is none, the host forbids it, or the file cannot be had whole.
        """
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.netloc:
            raise DownloadError(f"{url} is no https address: give the whole address of one file")
        target = self._target(url)
        if target.is_file():
            return target
        if not self._rules(parts.netloc).can_fetch(AGENT, url):
            raise DownloadError(f"{parts.netloc} asks programs not to fetch {parts.path}: download it in a browser")
        data = self._get(url)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + ".part")
        part.write_bytes(data)
        part.replace(target)
        return target

    def _target(self, url: str) -> Path:
        name = Path(urlsplit(url).path).name or "index"
        return Path(self.cache) / "downloads" / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{name}"

    def _rules(self, host: str) -> RobotFileParser:
        """Read robots.txt as RFC 9309 has it: none there allows all, a host that fails or is busy allows nothing."""
        if host not in self._robots:
            rules = RobotFileParser()
            reply = self._robots_reply(host)
            if reply.status != 429 and 400 <= reply.status < 500:
                rules.parse([])
            elif reply.good:
                rules.parse(reply.body.decode("utf-8", errors="replace").splitlines())
            else:
                rules.parse(["User-agent: *", "Disallow: /"])
            self._robots[host] = rules
        return self._robots[host]

    def _robots_reply(self, host: str) -> _Reply:
        url = f"https://{host}/robots.txt"
        reply = self._request(url)
        for _ in range(REDIRECTS):
            url = urljoin(url, reply.headers.get("Location", url))
            if reply.status not in (301, 302, 303, 307, 308) or urlsplit(url).scheme != "https":
                break
            reply = self._request(url)
        return reply

    def _get(self, url: str) -> bytes:
        for left in reversed(range(TRIES)):
            reply = self._request(url)
            if reply.good:
                return _whole(url, reply)
            if reply.status not in (429, 503) or not left:
                break
            self.sleep(_bearable(url, _wait_asked(reply, self.pause_seconds)))
        raise DownloadError(f"{url} answers {reply.status}: try again later, or put the file into the folder by hand")

    def _request(self, url: str) -> _Reply:
        import httpx

        host = urlsplit(url).netloc
        self._wait(url, host)
        try:
            with (
                httpx.Client(transport=self.transport, headers={"User-Agent": AGENT}, timeout=30.0) as http,
                http.stream("GET", url, follow_redirects=False) as reply,
            ):
                return _Reply(reply.status_code, reply.headers, _read(url, reply))
        except httpx.HTTPError as error:
            raise DownloadError(
                f"{host} cannot be reached ({type(error).__name__}): check the network, or put the file into the data "
                "folder by hand"
            ) from None
        finally:
            self._last[host] = self.clock()

    def _wait(self, url: str, host: str) -> None:
        rules = self._robots.get(host)
        asked = rules.crawl_delay(AGENT) if rules is not None else None
        pause = max(self.pause_seconds, _bearable(url, float(asked or 0)))
        if host in self._last and (left := self._last[host] + pause - self.clock()) > 0:
            self.sleep(left)


@dataclass(frozen=True)
class _Reply:
    """What a host answered, read to its end."""

    status: int
    headers: httpx.Headers
    body: bytes

    @property
    def good(self) -> bool:
        return 200 <= self.status < 300


def _read(url: str, reply: httpx.Response) -> bytes:
    """Read a reply as it comes, so that one without an end fills neither memory nor disk."""
    body = bytearray()
    for piece in reply.iter_bytes():
        body += piece
        if len(body) > LARGEST:
            raise DownloadError(f"{url} is larger than {LARGEST // 1_000_000} MB: is it a single file?")
    return bytes(body)


def _whole(url: str, reply: _Reply) -> bytes:
    """Return a file's bytes. Raises DownloadError for an empty one, or for a web page in its place."""
    if not reply.body:
        raise DownloadError(f"{url} is empty")
    if "html" in reply.headers.get("Content-Type", "").lower():
        raise DownloadError(
            f"{url} answers with a web page in place of a file: does this network ask you to log in first? Open the "
            "address in a browser, or put the file into the folder by hand"
        )
    return reply.body


def _bearable(url: str, seconds: float) -> float:
    if seconds > LONGEST_WAIT:
        raise DownloadError(
            f"{urlsplit(url).netloc} asks to wait {seconds:.0f} seconds before {urlsplit(url).path}: try again then, "
            "or put the file into the folder by hand"
        )
    return seconds


def _wait_asked(reply: _Reply, pause: float) -> float:
    """Return the seconds of Retry-After, which is a number or a date; without one, a guess."""
    asked = reply.headers.get("Retry-After", "").strip()
    if asked.isdecimal():
        return max(float(asked), pause)
    try:
        return max(parsedate_to_datetime(asked).timestamp() - time.time(), pause)
    except ValueError:
        return min(pause * 6, LONGEST_WAIT)


def fetch_twainbot(
    folder: Path, downloader: Downloader, books: Sequence[int] = tuple(BOOKS), headlines: str | None = HEADLINES_URL
) -> list[Path]:
    """Put books (by their number in the archive), headlines and our tool conversations into a folder, as the recipe
    twainbot reads it.

    Returns the files written. A file that is there already stays as it is: it may be yours.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {folder / f"pg{number}.txt": BOOK_URL.format(number=number) for number in books}
    wanted |= {folder / "headlines.csv": headlines} if headlines else {}
    written = []
    for target, url in wanted.items():
        if not target.exists():
            written.append(_copied(downloader.fetch(url), target))
    calls = data_file("twainbot/tool_conversations.jsonl")
    if not (folder / calls.name).exists():
        written.append(_copied(calls, folder / calls.name))
    return written


def _copied(source: Path, target: Path) -> Path:
    """Copy beside the target and rename: half a file of a run that was stopped would be taken for yours."""
    beside = target.with_name(f"{target.name}.{secrets.token_hex(4)}.part")
    try:
        shutil.copyfile(source, beside)
        return beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)
