"""From Hugging Face weights to GGUF files that run anywhere, and the proof that they are the same model.

Called in notebook 12 (and by `lekhai write`): convert, quantise, serve, compare tokens, write an Ollama Modelfile.
llama.cpp does the work, carried by three packages; this module is the one thin place that calls them.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from lekhai_helpers.core.recipe import Decoding, Settings
from lekhai_helpers.core.run_folder import write_text
from lekhai_helpers.learn.model import Generation, Message
from lekhai_helpers.prepare.contracts import Grammar
from lekhai_helpers.prepare.embedded import CHAT_TEMPLATE

# llama.cpp's numbers for file types (include/llama.h, enum llama_ftype).
FILE_TYPES = {"f16": 1, "q8_0": 7, "q6_k": 18, "q5_k_m": 17, "q4_k_m": 15}


class QuantizeError(RuntimeError):
    """A GGUF file could not be made or is not the same model; the text names the cause."""


def write_sentencepiece(folder: Path) -> Path:
    """Write the tokenizer.model that llama.cpp's converter asks for, from the folder's tokenizer.json.

    A piece's score is the place of the merge that makes it: the earlier the better, so the cuts are the same.
    """
    from sentencepiece import sentencepiece_model_pb2

    sentencepiece: Any = sentencepiece_model_pb2  # its classes are made when it is imported

    spec = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = spec["model"]["vocab"]
    score: dict[str, float] = {}
    for place, (left, right) in enumerate(spec["model"]["merges"]):
        score.setdefault(left + right, -float(place))
    added = {token["content"] for token in spec["added_tokens"]}
    special = {token["content"] for token in spec["added_tokens"] if token["special"]}
    proto = sentencepiece.ModelProto()
    for piece, _ in sorted(vocabulary.items(), key=lambda item: item[1]):
        entry = proto.pieces.add()
        entry.piece, entry.score = piece, score.get(piece, -1e6)
        entry.type = _piece_type(piece, special, added)
    trainer = proto.trainer_spec
    trainer.model_type, trainer.byte_fallback = sentencepiece.TrainerSpec.BPE, True
    trainer.vocab_size = len(vocabulary)
    trainer.unk_id, trainer.bos_id, trainer.eos_id, trainer.pad_id = (
        vocabulary[name] for name in ("<unk>", "<bos>", "<eos>", "<pad>")
    )
    trainer.bos_piece, trainer.eos_piece, trainer.pad_piece = "<bos>", "<eos>", "<pad>"
    normal = proto.normalizer_spec
    normal.name, normal.add_dummy_prefix, normal.remove_extra_whitespaces = "identity", False, False
    target = folder / "tokenizer.model"
    target.write_bytes(proto.SerializeToString())
    return target


def _piece_type(piece: str, special: set[str], added: set[str]) -> int:
    """Return SentencePiece's type of a piece: 1 normal, 2 unknown, 3 control, 4 user-defined, 6 byte."""
    if piece == "<unk>":
        return 2
    if piece.startswith("<0x"):
        return 6
    if piece in special:
        return 3
    return 4 if piece in added else 1


def needs_sentencepiece(folder: Path) -> bool:
    """Say whether the converter will ask for a tokenizer.model: a Gemma whose tokenizer is byte-fallback BPE."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    spec = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    gemma = str(config["model_type"]).startswith("gemma")
    return gemma and spec["model"].get("byte_fallback", False) and not (folder / "tokenizer.model").exists()


def convert_to_gguf(folder: Path, target: Path) -> Path:
    """Convert a Hugging Face folder to a 16-bit GGUF with llama.cpp's own converter.

    Raises QuantizeError with the converter's last lines where it fails.
    """
    if needs_sentencepiece(folder):
        write_sentencepiece(folder)
    beside = target.with_suffix(".writing")
    command = [sys.executable, "-m", "convert_hf_to_gguf", str(folder), "--outtype", "f16", "--outfile", str(beside)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode or not beside.exists():
        beside.unlink(missing_ok=True)
        last = "\n".join(done.stderr.strip().splitlines()[-4:])
        raise QuantizeError(f"llama.cpp's converter could not read {folder.name}:\n{last}")
    return beside.replace(target)


def quantize(source: Path, target: Path, kind: str) -> Path:
    """Write a smaller copy of a 16-bit GGUF; `kind` is one of FILE_TYPES.

    Raises QuantizeError where llama.cpp cannot read `source` or cannot write.
    """
    from cyllama.llama import llama_cpp

    beside = target.with_suffix(".writing")
    try:
        with _quiet_output():
            parameters = llama_cpp.LlamaModelQuantizeParams()
            parameters.ftype = FILE_TYPES[kind]
            llama_cpp.model_quantize(str(source), str(beside), parameters)
    except RuntimeError:
        beside.unlink(missing_ok=True)
        raise QuantizeError(f"llama.cpp wrote no {kind} file from {source.name}: is that file whole?") from None
    return beside.replace(target)


@contextlib.contextmanager
def _quiet_output() -> Iterator[None]:
    """Keep the hundreds of lines that llama.cpp prints from C out of the notebook."""
    import os

    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(1), os.dup(2)]
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            for number, copy in zip((1, 2), saved, strict=True):
                os.dup2(copy, number)
                os.close(copy)


@dataclass
class LlamaServer:
    """llama.cpp's own HTTP server over one GGUF file, in a process of its own; used as a context manager.

    `slots` requests are answered at once, each with `context` tokens of room.
    """

    gguf: Path
    context: int = 1024
    slots: int = 4
    threads: int | None = None

    def __enter__(self) -> LlamaServer:
        began = time.monotonic()
        self.port = _free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        settings = {
            "model": str(self.gguf),
            "context": self.context * self.slots,
            "slots": self.slots,
            "threads": self.threads or _cores(),
            "port": self.port,
        }
        command = [sys.executable, "-m", "lekhai_helpers.ship.llama_process", json.dumps(settings)]
        # stdin stays open: the server ends by itself when this process is gone.
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        # A long text on a slow machine takes its time; a server that died ends the connection by itself.
        self.client = httpx.Client(base_url=self.address, timeout=httpx.Timeout(None, connect=10))
        try:
            self._wait_until_ready(seconds=120 + self.gguf.stat().st_size / 1e7)
        except QuantizeError:
            self.__exit__()
            raise
        self.load_seconds = round(time.monotonic() - began, 2)
        return self

    def __exit__(self, *_: Any) -> None:
        self.client.close()
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _wait_until_ready(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise QuantizeError(f"llama.cpp could not load {self.gguf.name}: the file is broken or memory is short")
            with contextlib.suppress(httpx.TransportError):
                if self.client.get("/health").status_code == 200:
                    return
            time.sleep(0.1)
        raise QuantizeError(f"llama.cpp did not load {self.gguf.name} within {seconds:.0f} s")

    def peak_memory_mb(self) -> float:
        """Return the most memory the server's process has held, in MB (Linux; elsewhere what it holds now)."""
        status = Path(f"/proc/{self.process.pid}/status")
        if status.exists():
            peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
            return int(peak.split()[1]) * 1024 / 1e6
        import psutil

        return psutil.Process(self.process.pid).memory_info().rss / 1e6

    def tokenize(self, text: str) -> list[int]:
        """Return the token ids llama.cpp gives a text; special tokens written in it count as such, none is added."""
        body = {"content": text, "add_special": False, "parse_special": True}
        return self._post("/tokenize", body)["tokens"]

    def render(self, messages: Sequence[Message]) -> str:
        """Return the prompt text that the template inside the GGUF makes of the messages."""
        return self._post("/apply-template", {"messages": list(messages)})["prompt"]

    def complete(self, prompt: str, decoding: Decoding, seed: int, grammar: str | None = None) -> dict[str, Any]:
        """Continue a rendered prompt and return llama.cpp's answer with its timings; `grammar` is GBNF."""
        body = {
            "prompt": prompt,
            "n_predict": decoding.max_new_tokens,
            "repeat_last_n": self.context,  # everything so far, as transformers does
            "cache_prompt": False,
        } | _sampling(decoding, seed)
        return self._post("/completion", body | ({} if grammar is None else {"grammar": grammar}))

    def chat(self, messages: Sequence[Message], decoding: Decoding, seed: int = 1) -> str:
        """Answer a conversation through the OpenAI-compatible route, as any other program would ask."""
        body = {
            "messages": list(messages),
            "max_tokens": decoding.max_new_tokens,
        } | _sampling(decoding, seed)
        return self._post("/v1/chat/completions", body)["choices"][0]["message"]["content"]

    def write(
        self,
        prompts: Sequence[Sequence[Message]],
        decoding: Decoding,
        seed: int,
        grammars: Sequence[Grammar] | None = None,
    ) -> list[Generation]:
        """Answer several prompts at once, `slots` at a time, in order; each within its grammar where there are any."""
        from concurrent.futures import ThreadPoolExecutor

        def one(place: int, messages: Sequence[Message]) -> Generation:
            began = time.monotonic()
            grammar = grammars[place].gbnf if grammars else None
            answer = self.complete(self.render(messages), decoding, seed * 1000 + place, grammar)
            stopped = answer["stop_type"] in ("eos", "word")
            seconds = round(time.monotonic() - began, 3)
            return Generation(answer["content"], answer["tokens_predicted"], stopped, seconds)

        with ThreadPoolExecutor(self.slots) as pool:
            return list(pool.map(one, range(len(prompts)), prompts))

    def writer(self, decoding: Decoding):
        """Return this server as a writer of `measure.evaluation`: prompts, a seed, perhaps grammars in, texts out."""
        return lambda prompts, seed, grammars=None: self.write(prompts, decoding, seed, grammars)

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            answer = self.client.post(path, json=body)
        except httpx.TransportError as error:
            raise QuantizeError(f"llama.cpp stopped answering on {path}: {type(error).__name__}") from None
        if answer.status_code != 200:
            raise QuantizeError(f"llama.cpp answered {answer.status_code} on {path}: {answer.text[:300]}")
        return answer.json()


def _sampling(decoding: Decoding, seed: int) -> dict[str, Any]:
    """Return the recipe's decoding in llama.cpp's words, its own defaults for top_k and min_p switched off."""
    return {
        "temperature": decoding.temperature,
        "top_p": decoding.top_p,
        "top_k": 0,
        "min_p": 0.0,
        "repeat_penalty": decoding.repetition_penalty,
        "seed": seed,
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _cores() -> int:
    import psutil

    return psutil.cpu_count(logical=False) or 1


def token_differences(server: LlamaServer, tokenizer, texts: Sequence[str]) -> list[str]:
    """Return the texts that llama.cpp and Hugging Face cut into different tokens; an empty list is the good case."""
    return [text for text in texts if server.tokenize(text) != tokenizer(text, add_special_tokens=False).input_ids]


def template_differences(server: LlamaServer, tokenizer, prompts: Sequence[Sequence[Message]]) -> list[str]:
    """Return the prompts (as Hugging Face renders them) that the template inside the GGUF renders otherwise.

    llama.cpp adds the BOS token itself, so it is left out of the comparison on both sides.
    """
    bos = tokenizer.bos_token or ""
    different = []
    for messages in prompts:
        ours = tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False)
        if server.render(messages).removeprefix(bos) != ours.removeprefix(bos):
            different.append(ours)
    return different


def modelfile(gguf_name: str, settings: Settings, chat_template: str) -> str:
    """Return an Ollama Modelfile that decodes as the files were examined.

    With our own chat template it is written out in Ollama's language; any other is left to Ollama, which reads it from
    the GGUF. Ollama puts the BOS in front by itself.
    """
    decoding = settings.decoding
    lines = [f"FROM ./{gguf_name}"]
    if chat_template == CHAT_TEMPLATE:
        lines += [_OLLAMA_TEMPLATE, 'PARAMETER stop "<eos>"']
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


_OLLAMA_TEMPLATE = '''TEMPLATE """{{ if .System }}{{ .System }}

{{ end }}### Request:
{{ .Prompt }}

### Answer:
"""'''


def recommend(files: Sequence[dict[str, Any]], tolerance: float = 0.1) -> dict[str, Any]:
    """Return the smallest file whose share of valid tables is within `tolerance` of the 16-bit file's.

    `files` are rows with ``file``, ``size_mb`` and ``valid_share`` (0 to 1); the first is the 16-bit one.
    """
    enough = files[0]["valid_share"] - tolerance - 1e-9  # 0.8 - 0.1 is a little more than 0.7
    return min((row for row in files if row["valid_share"] >= enough), key=lambda row: row["size_mb"])


def write_modelfile(folder: Path, gguf_name: str, settings: Settings, chat_template: str) -> Path:
    """Write the Modelfile beside the GGUF file; `ollama create lekhai -f Modelfile` then takes it in."""
    return write_text(folder / "Modelfile", modelfile(gguf_name, settings, chat_template))


def exl_sentence() -> str:
    """Say whether the EXL formats make sense on this machine: they need an Ampere card (capability 8.0) or newer."""
    from lekhai_helpers.core.hardware import has_bf16, machine

    facts = machine()
    if facts["gpu"] is None:
        return "EXL2 and EXL3 run on graphics cards only, and this machine has none: the GGUF files are what you need."
    if not has_bf16(facts["compute_capability"]):
        return f"{facts['gpu']} is older than the Ampere cards that EXL2 and EXL3 are made for: use the GGUF files."
    return (
        f"{facts['gpu']} could run EXL3, the living successor of EXL2 (exllamav3, to be installed by yourself with a "
        "CUDA toolkit). The GGUF files run on it as well."
    )
