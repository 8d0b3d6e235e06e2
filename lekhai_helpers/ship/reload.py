"""Another model in the place of the one that answers, while requests run. Called by ``POST /admin/reload-model``.

The new file has to lie in an allowed folder, be whole, be of the same kind as the old, fit into memory beside it, load,
and write. Until then the old one answers, and whatever fails leaves it in its place.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx

from lekhai_helpers.core.recipe import Settings
from lekhai_helpers.prepare.contracts import get_contract
from lekhai_helpers.ship.engines import Engine, EngineError, LocalEngine
from lekhai_helpers.ship.forms import form_of
from lekhai_helpers.ship.gguf_header import GgufHeader, read_header
from lekhai_helpers.ship.problems import LOG, Refusal
from lekhai_helpers.ship.service import Service
from lekhai_helpers.ship.switchboard import Swapped
from lekhai_helpers.ship.writing import Order, chat_body, order_for, write


async def reload_model(service: Service, given: str) -> Swapped:
    """Let the model in the file `given` answer from now on.

    Raises Refusal: 403 outside the allowed folders, 404 where there is no such file, 409 while another swap runs or
    where the engine is not ours, 422 where the file or what it writes is no good, 507 where memory is short.
    """
    old = service.board.engine
    if not isinstance(old, LocalEngine):
        raise Refusal(409, "the model runs in an engine of its own elsewhere: change it there")
    path = await asyncio.to_thread(allowed_file, given, service.security.models)

    def load() -> Engine:
        new = read_header(path)
        same_kind(new, old.header)
        enough_memory(new, old.tokens)
        try:
            return old.beside(path)
        except EngineError as error:
            raise Refusal(422, f"{error}. {old.info.name} goes on answering") from None
        except OSError as error:
            LOG.error("no engine can be started beside the old one: %s", error)
            words = f"the machine has no process, file or memory left for it ({type(error).__name__})"
            raise Refusal(507, f"{words}: {old.info.name} goes on answering") from None

    async def check(engine: Engine) -> None:
        await writes_scripts(service.client, engine, service.settings)

    return await service.board.swap(load, check)


def allowed_file(given: str, folders: tuple[Path, ...]) -> Path:
    """Return the file that is meant, links resolved, if it lies in one of the folders. Raises Refusal (403, 404, 422).

    A name without a folder is looked for in each. What lies outside is refused before anybody looks whether it exists.
    """
    if "\0" in given:
        raise Refusal(422, "path must be the path of a file")
    try:
        meant = [(folder, (folder / Path(given).expanduser()).resolve()) for folder in folders]
        inside = [found for folder, found in meant if found.is_relative_to(folder)]
        files = [found for found in inside if found.is_file()]
    except (OSError, RuntimeError):  # a name too long, ~somebody who is not there, links in a circle
        raise Refusal(422, "path must be the path of a file") from None
    if not inside:
        raise Refusal(403, "models may come from the run's folder, and from those that LEKHAI_MODELS names, only")
    if not files:
        raise Refusal(404, f"there is no file {Path(given).name} in the folders that models may come from")
    if files[0].suffix != ".gguf":
        raise Refusal(422, f"{files[0].name} is no GGUF file: its name must end in .gguf")
    return files[0]


def same_kind(new: GgufHeader, old: GgufHeader) -> None:
    """Raise Refusal (422) where the new file is another architecture, has another dictionary or another template.

    Such a file may be good; but what is asked of it was examined with the old kind. It takes a restart.
    """
    differences = {
        f"architecture {new.architecture} instead of {old.architecture}": new.architecture != old.architecture,
        f"{new.vocabulary} pieces in the dictionary instead of {old.vocabulary}": new.vocabulary != old.vocabulary,
        "another chat template": new.chat_template != old.chat_template,
    }
    found = [words for words, differs in differences.items() if differs]
    if found:
        remedy = "stop the service and start it with this file if that is what you want"
        raise Refusal(422, f"the file is another kind of model ({', '.join(found)}): {remedy}")


def enough_memory(new: GgufHeader, tokens: int) -> None:
    """Raise Refusal (507) where the new model does not fit into what is free, the old one still in its place."""
    needed, free = new.memory(tokens), free_memory()
    if needed > free:
        words = f"the new model needs about {needed / 1e6:.0f} MB beside the old one, and {free / 1e6:.0f} MB are free"
        raise Refusal(507, f"{words}: close other programs, take a smaller file, or start with fewer serving.slots")


def free_memory() -> int:
    """Return the bytes that can still be taken: what the machine says, or less where a container has its own limit."""
    import psutil

    free = [psutil.virtual_memory().available]
    group = Path("/sys/fs/cgroup")
    limit = group / "memory.max"
    if limit.exists() and (most := limit.read_text().strip()) != "max":
        statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        used = int((group / "memory.current").read_text()) - int(statistics.get("inactive_file", 0))
        free.append(int(most) - used)
    return min(free)


async def writes_scripts(client: httpx.AsyncClient, engine: Engine, settings: Settings) -> None:
    """Let a new engine write as the service will ask it, up to three times; raise Refusal (422) if nothing is good.

    `serving.check` says what is good. "unaided" is the strict one: the grammar lends a table to any model, so a file
    that quantising has ruined shows only without it. The first good answer ends the trial.
    """
    orders = [order_for(trial, settings) for trial in form_of(settings).samples(settings)]
    if not orders:
        raise Refusal(422, f"nothing could show that {engine.info.name} writes: name messages in serving.trials")
    aided = [order for order in orders if order.gbnf]
    if aided:
        await _one_is_good(client, engine, settings, aided, " within the grammar")
    if not aided or settings.serving.check == "unaided":
        free = [Order(order.messages, "") for order in orders]
        await _one_is_good(client, engine, settings, free, " without the grammar's help" if aided else "")


async def _one_is_good(
    client: httpx.AsyncClient, engine: Engine, settings: Settings, orders: list[Order], how: str
) -> None:
    problems: list[str] = []
    for seed, order in enumerate(orders, 1):
        text = await _trial(client, engine, settings, order, seed)
        verdict = get_contract(settings.data.contract)(text)
        if (verdict.ok and text.strip()) or (settings.serving.check == "text" and text.strip()):
            return
        problems += verdict.problems if text.strip() else ["nothing was written"]
    found = "; ".join(dict.fromkeys(problems))[:300]
    unit = settings.data.unit
    said = f"{engine.info.name} wrote no valid {unit} in {len(orders)} tries{how} ({found}): it is not put in place"
    LOG.warning(said)
    raise Refusal(422, said)


async def _trial(client: httpx.AsyncClient, engine: Engine, settings: Settings, order: Order, seed: int) -> str:
    seconds = settings.serving.write_seconds
    try:
        async with asyncio.timeout(seconds):
            return await write(client, engine, chat_body(engine, order, settings.decoding, seed))
    except TimeoutError:
        raise Refusal(422, f"{engine.info.name} did not answer within {seconds:g} seconds") from None
    except Refusal as refusal:
        raise Refusal(422, f"{engine.info.name} loads but does not write: {refusal.detail}") from None
