"""Ollama's Modelfile: writing one, reading one, and rendering its template as Ollama does, to compare the text.

Called in notebook 12: ``write_modelfile(folder, gguf_name, settings, tokenizer.chat_template)``; `ship.parity` reads it
back and compares what ``render_template`` makes of a brief with what Hugging Face makes of it.

Ollama's templates are written in Go's text/template (https://pkg.go.dev/text/template). Rendered here is what we
write: ``{{ .System }}``, ``{{ .Prompt }}``, ``{{ if .System }} ... {{ end }}`` and the trim marks ``{{-`` and ``-}}``.
Anything else is refused by name rather than guessed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from lekhai_helpers.core.recipe import Settings
from lekhai_helpers.core.run_folder import write_text
from lekhai_helpers.prepare.embedded import CHAT_TEMPLATE
from lekhai_helpers.ship.errors import QuantizeError

OLLAMA_TEMPLATE = """{{ if .System }}{{ .System }}

{{ end }}### Request:
{{ .Prompt }}

### Answer:
"""

_MARK = re.compile(r"\{\{(-(?=\s))?\s*(.*?)\s*((?<=\s)-)?\}\}", re.DOTALL)
_LONG = re.compile(r'^(TEMPLATE|SYSTEM)\s+"""(.*?)"""', re.MULTILINE | re.DOTALL)
_VALUE = re.compile(r"^PARAMETER\s+(\S+)\s+(.+?)\s*$", re.MULTILINE)
_FROM = re.compile(r"^FROM\s+(.+?)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Modelfile:
    """A Modelfile as read: the file it builds on, its template and system text (None: not set), where it stops."""

    source: str
    template: str | None
    system: str | None
    stops: tuple[str, ...]


def modelfile(gguf_name: str, settings: Settings, chat_template: str) -> str:
    """Return an Ollama Modelfile that decodes as the files were examined.

    With our own chat template it is written out in Ollama's language; any other is left to Ollama, which reads it from
    the GGUF. Ollama puts the BOS in front by itself. Raises QuantizeError for a system text that cannot be quoted.
    """
    if '"""' in settings.system_prompt:
        raise QuantizeError('a Modelfile cannot hold a system text with """ in it: change system_prompt in the recipe')
    decoding = settings.decoding
    lines = [f"FROM ./{gguf_name}"]
    if chat_template == CHAT_TEMPLATE:
        lines += [f'TEMPLATE """{OLLAMA_TEMPLATE}"""', 'PARAMETER stop "<eos>"']
    lines += [
        f'SYSTEM """{settings.system_prompt}"""',
        f"PARAMETER temperature {decoding.temperature}",
        f"PARAMETER top_p {decoding.top_p}",
        "PARAMETER top_k 0",
        "PARAMETER min_p 0",
        f"PARAMETER repeat_penalty {decoding.repetition_penalty}",
        f"PARAMETER num_predict {decoding.max_new_tokens}",
        f"PARAMETER num_ctx {settings.model.max_seq_length}",
    ]
    return "\n".join(lines) + "\n"


def write_modelfile(folder: Path, gguf_name: str, settings: Settings, chat_template: str) -> Path:
    """Write the Modelfile beside the GGUF file; `ollama create lekhai -f Modelfile` then takes it in."""
    return write_text(folder / "Modelfile", modelfile(gguf_name, settings, chat_template))


def read_modelfile(text: str) -> Modelfile:
    """Return what a Modelfile says. Raises QuantizeError where it names no file to build on."""
    source = _FROM.search(text)
    if source is None:
        raise QuantizeError("the Modelfile has no FROM line, so Ollama knows no file to take: write it anew")
    long = dict(_LONG.findall(text))
    stops = tuple(value.strip('"') for name, value in _VALUE.findall(_LONG.sub("", text)) if name == "stop")
    return Modelfile(source[1], long.get("TEMPLATE"), long.get("SYSTEM"), stops)


def render_template(template: str, system: str, prompt: str) -> str:
    """Return the text Ollama makes of a system text (empty: none) and a user's message.

    Raises QuantizeError for anything outside the subset named above, and for an ``if`` without its ``end``.
    """
    values = {".System": system, ".Prompt": prompt}
    written: list[str] = []
    shown = [True]  # for the text itself and for every `if` that is open
    for kind, word in _pieces(template):
        if kind == "text":
            written += [word] if all(shown) else []
        elif word in values:
            written += [values[word]] if all(shown) else []
        elif word.removeprefix("if ").strip() in values and word.startswith("if "):
            shown.append(bool(values[word.removeprefix("if ").strip()]))
        elif word == "end" and len(shown) > 1:
            shown.pop()
        else:
            raise QuantizeError(f"the Modelfile's template says {{{{ {word} }}}}, which is not known here: {_KNOWN}")
    if len(shown) > 1:
        raise QuantizeError("the Modelfile's template opens an {{ if }} that no {{ end }} closes: Ollama refuses it")
    return "".join(written)


_KNOWN = "use only {{ .System }}, {{ .Prompt }}, {{ if .System }} and {{ end }}, or leave TEMPLATE out"


def _pieces(template: str) -> list[tuple[str, str]]:
    """Cut a template into texts and marks, the white space that a trim mark takes away already gone."""
    pieces: list[tuple[str, str]] = []
    at, trim = 0, False
    for mark in _MARK.finditer(template):
        text = template[at : mark.start()]
        text = text.lstrip() if trim else text
        pieces += [("text", text.rstrip() if mark[1] else text), ("mark", " ".join(mark[2].split()))]
        at, trim = mark.end(), bool(mark[3])
    rest = template[at:]
    return [*pieces, ("text", rest.lstrip() if trim else rest)]
