"""The page an agency works with, as files of this package. `add_page(app)` puts it on the service (notebook 09).

Only the files that belong to the page are served, each under a name known beforehand: a path from a browser is looked
up among these names and never opened.
"""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse
from starlette.exceptions import HTTPException

WEB = Path(__file__).parent / "web"
FONTS = Path(__file__).parents[1] / "core" / "fonts"

# Said twice: index.html has the same in a <meta>, so that the page is as strict on any other host. A host's own header
# can forbid frames as well, which a <meta> cannot.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'"
)
HEADERS = {
    "Content-Security-Policy": f"{CONTENT_SECURITY_POLICY}; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

# Written down, not guessed: what `mimetypes` knows differs by machine, and a browser refuses a script of a wrong type.
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".ttf": "font/ttf",
    ".txt": "text/plain; charset=utf-8",
}


def add_page(app: FastAPI) -> None:
    """Serve the page at ``/`` and its files at ``/static/...``, each with a strict Content-Security-Policy."""
    files = page_files()

    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(
            WEB / "index.html", media_type="text/html; charset=utf-8", headers=HEADERS | {"Cache-Control": "no-cache"}
        )

    @app.get("/static/{name:path}", include_in_schema=False)
    def static(name: str) -> FileResponse:
        if name not in files:
            raise HTTPException(404, "there is no such file of the page")
        file = files[name]
        # The font does not change from day to day; everything else must match the service that answers.
        cache = "max-age=604800" if name.startswith("fonts/") else "no-cache"
        return FileResponse(file, media_type=_TYPES[file.suffix], headers=HEADERS | {"Cache-Control": cache})


def page_files() -> dict[str, Path]:
    """Return the files behind ``/static/``: name in the address -> file. The font's licence is one of them."""
    own = {file.name: file for file in sorted(WEB.iterdir()) if file.suffix in (".css", ".js", ".svg")}
    fonts = {f"fonts/{file.name}": file for file in sorted(FONTS.iterdir()) if file.suffix in (".ttf", ".txt")}
    return own | fonts
