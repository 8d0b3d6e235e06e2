"""A small stand-in of the Hugging Face hub's HTTP interface on this machine, for pushing, failing and resuming.

It speaks what the hub's own client asks for when a model is pushed with large files over HTTP: create a repository,
look at it, check the card, say which files are large, take the large ones one by one, take the commit. It is not the
hub: no Xet storage (the client is told not to use it), no accounts, no limits, no waiting.
"""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LARGE = 1_000  # bytes from which a file counts as large


class Hub:
    """What the stand-in remembers: blobs by SHA-256, files by path, and every upload in order."""

    def __init__(self, public: bool = False, cut_at: int = 0, refuse_from: int = 0) -> None:
        self.public = public
        self.cut_at = cut_at  # break the connection in the middle of this upload, counted from 1
        self.refuse_from = refuse_from  # refuse this upload and all after it, as full storage does
        self.blobs: dict[str, bytes] = {}
        self.files: dict[str, bytes] = {}
        self.uploads: list[str] = []
        self.commits: list[list[str]] = []
        self.tokens: set[str] = set()
        self.created: list[dict] = []
        self.lock = threading.Lock()
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> "Hub":
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.server.shutdown()
        self.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_) -> None:
        pass

    def do_GET(self) -> None:
        if self.path.startswith("/api/models/"):
            self._answer({"id": "rahima/lekhai", "private": not self.hub.public, "sha": "0" * 40, "siblings": []})
        else:
            self._answer({}, 404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.hub.tokens.add(self.headers.get("Authorization", ""))
        if self.path == "/api/repos/create":
            self.hub.created.append(json.loads(body))
            self._answer({"url": f"{self.hub.address}/rahima/lekhai", "id": "rahima/lekhai"})
        elif self.path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            self._answer({"files": [self._mode(file) for file in json.loads(body)["files"]]})
        elif self.path.endswith("/info/lfs/objects/batch"):
            self._answer({"transfer": "basic", "objects": [self._action(one) for one in json.loads(body)["objects"]]})
        elif "/commit/" in self.path:
            self._commit([json.loads(line) for line in body.splitlines()])
        else:
            self._answer({}, 404)

    def do_PUT(self) -> None:
        length, name = int(self.headers["Content-Length"]), self.path.rsplit("/", 1)[1]
        with self.hub.lock:
            self.hub.uploads.append(name)
            number = len(self.hub.uploads)
        if number == self.hub.cut_at:
            self.rfile.read(length // 2)
            self.connection.close()  # in the middle of a file, as a network does
            self.close_connection = True
            return
        content = self.rfile.read(length)
        if self.hub.refuse_from and number >= self.hub.refuse_from:
            self._answer({"error": "storage is full"}, 403)
            return
        assert hashlib.sha256(content).hexdigest() == name
        self.hub.blobs[name] = content
        self._answer({})

    def _mode(self, file: dict) -> dict:
        known = self.hub.files.get(file["path"])
        large = file["size"] >= LARGE
        return {
            "path": file["path"],
            "uploadMode": "lfs" if large else "regular",
            "shouldIgnore": False,
            "oid": None if known is None else _oid(known, large),
        }

    def _action(self, one: dict) -> dict:
        there = one["oid"] in self.hub.blobs
        action = {} if there else {"actions": {"upload": {"href": f"{self.hub.address}/blobs/{one['oid']}"}}}
        return {"oid": one["oid"], "size": one["size"]} | action

    def _commit(self, lines: list[dict]) -> None:
        paths = []
        for line in lines[1:]:
            value = line["value"]
            large = line["key"] == "lfsFile"
            self.hub.files[value["path"]] = (
                self.hub.blobs[value["oid"]] if large else base64.b64decode(value["content"])
            )
            paths.append(value["path"])
        self.hub.commits.append(sorted(paths))
        self._answer({"commitUrl": f"{self.hub.address}/rahima/lekhai/commit/{'1' * 40}", "commitOid": "1" * 40})

    def _answer(self, body: dict, status: int = 200) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


def _oid(content: bytes, large: bool) -> str:
    """Large files go by their SHA-256, small ones by git's own sum."""
    if large:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
