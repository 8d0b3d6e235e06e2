# %% [markdown]
# # How does an app talk to the model?
#
# **Goal.** Put the exported model behind a small web service (an *API*) with a page, ask it for a script as an app
# would, keep the script in a database, and change the model while requests run, without a gap.
#
# **Needs** `exported_model` from notebook 08. **Makes** `integration`: requests, answers, and the database of scripts.

# %% [markdown]
# ### Explanation
# The same four values as in every notebook.

# %% tags=["parameters"]
RECIPE = "lekhai"  # what is made
PROFILE = "auto"  # where it is made: smoke, cpu, colab-t4, rtx5070, multi-gpu, or auto
RUN = "first"  # the name of this attempt
OVERRIDES = {}  # single settings, for example {"sft.max_steps": 90}

# %% [markdown]
# ### Explanation
# We open the run.

# %%
from lekhai_helpers.core.run_folder import open_phase

phase = open_phase("09_integration", RECIPE, PROFILE, RUN, OVERRIDES)
settings = phase.settings
print(phase.opening())

# %% [markdown]
# ### Explanation
# A service should not need Python, a training engine and a graphics card. So the model becomes one file that llama.cpp
# reads (GGUF; notebook 12 explains it), and a smaller copy in 8 bits. We work on a copy of the folder, because the
# converter wants one more file beside the weights.

# %%
import shutil

from lekhai_helpers.ship.quantize import convert_to_gguf, quantize

source, folder = phase.folder / "source", phase.folder / "gguf"
shutil.copytree(phase.require("exported_model") / "merged", source, dirs_exist_ok=True)
folder.mkdir(exist_ok=True)
large = convert_to_gguf(source, folder / f"{settings.recipe}-f16.gguf")
small = quantize(large, folder / f"{settings.recipe}-q8_0.gguf", "q8_0")
shutil.rmtree(source)
print(*(f"{file.name}: {file.stat().st_size / 1e6:.0f} MB" for file in (large, small)), sep="\n")

# %% [markdown]
# ### Explanation
# What an app sends: a few plain fields, as sliders and boxes on a page would give them. The helper turns them into the
# kind of brief the model was trained on.

# %%
from lekhai_helpers.ship.serving import ScriptRequest, brief_prompt

request = ScriptRequest(
    industry="পানীয় ও চা (Beverage & Tea)", tone="উষ্ণ পারিবারিক (Warm family)", brand="শিশিরকণা",
    product="দুধ চায়ের মিক্স", duration_seconds=20, message="বৃষ্টির দিনে ঘরে বসেই টং দোকানের চা",
)  # fmt: skip
print(brief_prompt(request))

# %% [markdown]
# ### Explanation
# Three parts. The **engine** writes: llama.cpp in a process of its own, so that a crash there does not take the service
# along. The **store** keeps every script: here a file, at a company a PostgreSQL server, by its address alone. The
# **switchboard** stands between: it hands out the engine to a few requests at once, lets some more wait, and sends the
# rest away politely.

# %%
from lekhai_helpers.ship.engines import local_engine
from lekhai_helpers.ship.limits import Limits, Security
from lekhai_helpers.ship.store import ScriptStore
from lekhai_helpers.ship.switchboard import Switchboard

engine = local_engine(large, settings.model.max_seq_length, slots=2)
board = Switchboard(engine, Limits(slots=2, queue=settings.serving.queue))
store = ScriptStore(f"sqlite:///{phase.folder / 'scripts.db'}")
print(engine.info.name)

# %% [markdown]
# ### Explanation
# The service itself, on this machine only, on a free port. Whoever may change its model has a token; it is drawn by
# chance here, and is not printed. `lekhai serve` does the same from a terminal, with tokens from the environment.

# %%
import secrets

from lekhai_helpers.ship.serving import LocalService, create_app

token = secrets.token_urlsafe()
service = LocalService(create_app(board, store, settings, Security(admin_token=token, models=(folder,))))
service.start()

# %% [markdown]
# ### Key Concepts
# **API:** a counter at which programs order from each other. **HTTP request:** the order form. **JSON:** the form's
# language. **Health check:** "are you open?", asked by machines every few seconds. **Queue:** the line at the counter;
# a good one has an end, or everybody waits for ever.
#
# *Interview question:* Why validate the model's output on the server? *A good answer:* a model can always write
# something odd. Our service holds it to the form of a table while it writes (a grammar), and still says in
# `contract.ok` and `contract.problems` whether the rest was kept, so that the page can show it, ask again, or refuse.

# %% [markdown]
# ### Explanation
# Is it open? Machines ask this every few seconds.

# %%
import httpx

client = httpx.Client(base_url=service.address, timeout=600)
print(client.get("/health").json())

# %% [markdown]
# ### Explanation
# The order: exactly what a page would send. The number below it is the status: 200 means answered, 422 means the order
# cannot be used. 200 says nothing about the script; that is what `contract` is for.

# %%
import json

answer = client.post("/v1/scripts", json=request.model_dump())
print(json.dumps(request.model_dump(), ensure_ascii=False, indent=1), answer.status_code, sep="\n")

# %% [markdown]
# ### Explanation
# And the answer: the number under which it is kept, the Markdown, the parsed rows (for a page to draw), the contract's
# verdict, which model wrote it (the file and the beginning of its checksum) and the time it took.

# %%
body = answer.json()
print(json.dumps(body | {"markdown": body["markdown"][:200]}, ensure_ascii=False, indent=1)[:1700])

# %% [markdown]
# ### Explanation
# The rows as a table, as the page shows them.

# %%
import pandas as pd

pd.DataFrame(body["rows"])

# %% [markdown]
# ### Explanation
# A wrong order gets a clear reply, not a crash. Here brand and product are missing and the film is an hour long.

# %%
wrong = client.post("/v1/scripts", json={"industry": "চা", "duration_seconds": 3600})
print(wrong.status_code, json.dumps(wrong.json(), ensure_ascii=False, indent=1)[:900])

# %% [markdown]
# ### Explanation
# Nothing is lost: the script was on disk before the answer was sent. We look it up as the page's history does, by a
# word from it, and fetch it as a Word file.

# %%
found = client.get("/v1/scripts", params={"query": request.brand}).json()["scripts"]
word = client.get(f"/v1/scripts/{body['id']}/docx")
print(f"{len(found)} script(s) with {request.brand}; the newest is ours: {found[0]['id'] == body['id']}")
print(f"{word.headers['content-disposition']}, {len(word.content):,} bytes")

# %% [markdown]
# ## A new model, while requests run
#
# ### Explanation
# Tomorrow there is a better file. Switching the service off for it would lose orders. So six apps order at the same
# time, and in the middle of it the service is told to take the smaller file: it loads it beside the old one, lets it
# write as a test, finishes what is under way on the old one, and only then switches.

# %%
from concurrent.futures import ThreadPoolExecutor

with ThreadPoolExecutor(7) as pool:
    orders = [pool.submit(client.post, "/v1/scripts", json=request.model_dump()) for _ in range(6)]
    asked = {"path": str(small)}, {"Authorization": f"Bearer {token}"}
    swapped = pool.submit(client.post, "/admin/reload-model", json=asked[0], headers=asked[1]).result()
    answers = [order.result() for order in orders]
print(swapped.status_code, {name: value for name, value in swapped.json().items() if name != "instance"})

# %% [markdown]
# ### Explanation
# Did anybody notice? All statuses should be 200; the model that answered stands in each. If the new file does not
# write a valid table in its test, the service refuses it, says so above, and the old model goes on.

# %%
after = client.post("/v1/scripts", json=request.model_dump())
rows = [(one.status_code, one.json()["model"], one.json()["seconds"]) for one in [*answers, after]]
pd.DataFrame(rows, columns=["status", "model", "seconds"])

# %% [markdown]
# ### Explanation
# A file that is no model must not bring the service down.

# %%
broken = folder / "broken.gguf"
broken.write_bytes(b"GGUF, it says, and then nothing")
refused = client.post("/admin/reload-model", json={"path": str(broken)}, headers=asked[1])
broken.unlink()
print(refused.status_code, refused.json()["detail"], client.get("/health").json()["status"], sep="\n")

# %% [markdown]
# ### Explanation
# What stands around the service at a company:
#
# - **The page** is served at the same address (`lekhai serve`, then open it in a browser). On **Vercel** it runs alone:
#   one environment variable, `LEKHAI_API`, names this service; the model itself does not run there. A page built with
#   **Lovable** needs the same address of `POST /v1/scripts`, and to be listed in `serving.origins`.
# - **Supabase** is a PostgreSQL server with accounts: `LEKHAI_DATABASE_URL` names it, and `supabase.sql` makes the
#   table, with rules by which nobody reads another's scripts.
# - **More than one machine**: the engine may be any OpenAI-compatible server. With a graphics card, on one terminal
#   `vllm serve ./merged --port 9000`, on another `lekhai serve --engine http://localhost:9000/v1 --model ./merged`.

# %%
page = client.get("/")
print(f"{page.status_code}, {len(page.content):,} bytes; what the page may load: its own files only")
print(page.headers["content-security-policy"])

# %% [markdown]
# ### Explanation
# With a person at the keyboard, sliders and a button send the same order to the same service, by this function. Its
# first three rows:

# %%
def order(**wish):
    return pd.DataFrame(client.post("/v1/scripts", json=wish).json()["rows"])

choices = client.get("/v1/choices").json()
order(industry=choices["industries"][0], tone=choices["tones"][0], brand="শিশিরকণা", product="দুধ চা").head(3)

# %% [markdown]
# ### Explanation
# The names on the sliders are those of the data; they come from the service, as for the page. A headless run has nobody
# to move them, and only counts them.

# %%
from lekhai_helpers.core.notebook import is_interactive

print(len(choices["industries"]), "industries and", len(choices["tones"]), "tones")
if is_interactive():
    from ipywidgets import IntSlider, SelectionSlider, interact_manual

    trade, tone = (SelectionSlider(options=choices[name]) for name in ("industries", "tones"))
    words = {"brand": "শিশিরকণা", "product": "দুধ চা", "duration_seconds": IntSlider(20, 10, 90, 5)}
    interact_manual(order, industry=trade, tone=tone, **words)

# %% [markdown]
# ### Explanation
# We close the counter: service, engine and store. The check asserts the service's promises, not the quality of one
# script.

# %%
from lekhai_helpers.core.run_folder import write_json

service.stop()
board.engine.close()
store.close()
assert answer.status_code == 200 and body["id"] == found[-1]["id"] and wrong.status_code == 422
assert all(one.status_code == 200 for one in [*answers, after]) and refused.status_code in (409, 422)
kept = write_json(phase.folder / "integration.json", {"request": request.model_dump(), "answer": body})
figures = {"seconds": body["seconds"], "contract_ok": body["contract"]["ok"], "swap": swapped.status_code}
manifest = phase.finish({"integration": kept}, figures)

# %% [markdown]
# ## What this did not show
# Many people at once for hours, accounts, or a graphics card. The service limits itself (size, length, time, queue),
# but nobody has attacked this one.
