# %% [markdown]
# # How does an app talk to the model?
#
# **Goal.** Put the exported model behind a small web service (an *API*) with a page, ask it as an app would, keep the
# answers in a database, change the model while requests run, without a gap, and, where the model may call a tool, make
# its calls.
#
# **Needs** `exported_model` from notebook 08. **Makes** `integration`: requests, answers, and the database of answers.

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
# We open the run, and say what is written here and what keeps its contract.

# %%
from lekhai_helpers.core.run_folder import open_phase
from lekhai_helpers.prepare.contracts import get_contract, words_of

phase = open_phase("09_integration", RECIPE, PROFILE, RUN, OVERRIDES)
settings = phase.settings
contract, words = get_contract(settings.data.contract), words_of(settings)
print(phase.opening(), f"it writes: {words.units}. {contract.rule}", sep="\n")

# %% [markdown]
# ### Explanation
# The engine that writes should not need Python, a training library or a graphics card (the service around it is
# Python). So the model becomes one file that llama.cpp reads (GGUF; notebook 12 explains it), and a smaller copy in 8
# bits. First: have disk and memory room for that?

# %%
from lekhai_helpers.learn.shapes import read_config
from lekhai_helpers.ship.budgets import begin_gguf_set

merged, folder = phase.require("exported_model") / "merged", phase.folder / "gguf"
need = begin_gguf_set(folder, read_config(merged), ["q8_0"], source=merged)
print(f"{need.what}: {need.disk_mb:,.0f} MB of disk, {need.memory_mb:,.0f} MB of memory")

# %% [markdown]
# ### Explanation
# They have, or the cell above would have said so. The converter wants one more file beside the weights, so it gets a
# folder of its own, of links where the disk allows them.

# %%
import shutil

from lekhai_helpers.ship.atomic import working_copy
from lekhai_helpers.ship.quantize import convert_to_gguf, quantize

source = working_copy(merged, phase.folder / "source")
large = convert_to_gguf(source, folder / f"{settings.recipe}-f16.gguf")
small = quantize(large, folder / f"{settings.recipe}-q8_0.gguf", "q8_0")
shutil.rmtree(source)
print(*(f"{file.name}: {file.stat().st_size / 1e6:.0f} MB" for file in (large, small)), sep="\n")

# %% [markdown]
# ### Explanation
# What an app sends: a few plain fields, as sliders and boxes on a page would give them. Which ones, the recipe says
# (`serving.form`): the fields of an advertisement, or one message. The form turns them into the kind of request the
# model was trained on.

# %%
import json

from lekhai_helpers.ship.serving import form_of

form = form_of(settings)
request = form.example(settings).model_dump()
print(json.dumps(request, ensure_ascii=False, indent=1))
print("the model is asked:", form.prompt(form.example(settings), settings))

# %% [markdown]
# ### Explanation
# Three parts. The **engine** writes: llama.cpp in a process of its own, so that a crash there does not take the service
# along. The **store** keeps every answer: here a file, at a company a PostgreSQL server, by its address alone. The
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
# something odd. Where a contract has a grammar, our service holds the model to that form while it writes; and it always
# says in `contract.ok` and `contract.problems` whether the contract was kept, so that the page can show the answer, ask
# again, or refuse.

# %% [markdown]
# ### Explanation
# Is it open? Machines ask this every few seconds.

# %%
import httpx

client = httpx.Client(base_url=service.address, timeout=600)
print(client.get("/health").json())

# %% [markdown]
# ### Explanation
# The order above goes to the service, exactly as a page would send it. The number is the status: 200 means answered,
# 422 means the order cannot be used. 200 says nothing about what was written; that is what `contract` is for.

# %%
answer = client.post("/v1/scripts", json=request)
body = answer.json()
print(answer.status_code, "the contract is kept" if body["contract"]["ok"] else body["contract"]["problems"])

# %% [markdown]
# ### Explanation
# How fast was that? The service counts tokens (at `/metrics`, for the machines that watch it), as the engine counts
# them. Seconds alone say little: they depend on how long the answer became, and on what else this machine does.


# %%
def tokens_written():
    lines = client.get("/metrics").text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("lekhai_tokens_total "))


pace = tokens_written() / body["seconds"]
print(f"{tokens_written():.0f} tokens in {body['seconds']:.1f} s: {pace:.1f} tokens per second, with {body['model']}")

# %% [markdown]
# ### Explanation
# And the answer: the number under which it is kept, the text (`markdown`), the parsed rows or table where it is one
# (for a page to draw), the contract's verdict, which model wrote it (the file and the beginning of its checksum) and
# the time it took.

# %%
print(json.dumps(body | {"markdown": body["markdown"][:200]}, ensure_ascii=False, indent=1)[:1700])

# %% [markdown]
# ### Explanation
# The same as a reader sees it: a table where the contract can read one, else the text as it was written.

# %%
from lekhai_helpers.core.notebook import is_interactive, readable

readable(contract.show(body["markdown"]))

# %% [markdown]
# ### Explanation
# A wrong order gets a clear reply, not a crash. This one asks for something an hour long, and leaves out what it is
# about.

# %%
wrong = client.post("/v1/scripts", json={"duration_seconds": 3600})
print(wrong.status_code, json.dumps(wrong.json(), ensure_ascii=False, indent=1)[:900])

# %% [markdown]
# ### Explanation
# Nothing is lost: it was on disk before the answer was sent. We look it up as the page's history does, by a word from
# the order, and fetch it as a Word file. There is one history for all: whoever may ask this service may read, and
# search, what everybody else had written with it. It knows no persons, only (where it is set) one key.

# %%
title = form.title(request)
sought = max(title.strip("…").split(), key=len)
found = client.get("/v1/scripts", params={"query": sought}).json()["scripts"]
document = client.get(f"/v1/scripts/{body['id']}/docx")
print(f"{len(found)} with the word {sought}; the newest is ours: {found[0]['id'] == body['id']}")
print(f"{document.headers['content-disposition']}, {len(document.content):,} bytes")

# %% [markdown]
# ### Explanation
# Programs that already speak to OpenAI's service need only this address: `/v1/chat/completions` is the same counter
# with the same form. It passes a conversation on as it is: no brief is worded, no system text is added (so a model with
# tools knows of none here), no grammar holds the form, and nothing is kept.

# %%
chat = {"messages": [{"role": "user", "content": form.prompt(form.example(settings), settings)}], "max_tokens": 60}
told = client.post("/v1/chat/completions", json=chat).json()
print(told["model"], told["choices"][0]["message"]["content"], sep="\n")

# %% [markdown]
# ## A new model, while requests run
#
# ### Explanation
# Tomorrow there is a better file. Switching the service off for it would lose orders. So six apps order at the same
# time, and in the middle of it the service is told to take the smaller file. It loads the new one beside the old,
# which goes on answering, and lets it write as a test. Then it switches: whoever comes to the counter from now on, and
# whoever still waits in line, gets the new model at once. Orders under way are finished by the old one. Only when the
# last of them is done is its memory given back, and the call below returns: its seconds hold that wait as well.

# %%
from concurrent.futures import ThreadPoolExecutor

with ThreadPoolExecutor(7) as pool:
    orders = [pool.submit(client.post, "/v1/scripts", json=request) for _ in range(6)]
    asked = {"path": str(small)}, {"Authorization": f"Bearer {token}"}
    swapped = pool.submit(client.post, "/admin/reload-model", json=asked[0], headers=asked[1]).result()
    answers = [order.result() for order in orders]
print(swapped.status_code, {name: value for name, value in swapped.json().items() if name != "instance"})

# %% [markdown]
# ### Explanation
# Did anybody notice? All statuses should be 200; the model that answered stands in each. If the new file writes nothing
# sound in its test, the service refuses it, says so above, and the old model goes on. Above the table is the pace of
# the last order, which had the machine to itself as the first one had. (The first also had to read the system text,
# which later ones find read; notebook 12 compares files.)

# %%
import pandas as pd

before = tokens_written()
after = client.post("/v1/scripts", json=request)
print(f"{(tokens_written() - before) / after.json()['seconds']:.1f} tokens per second, before it was {pace:.1f}")
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
# - **The page** is served at the same address (`lekhai serve`, then open it in a browser). On **Vercel** it stands
#   alone, and the model does not run there: in Vercel, `LEKHAI_API` names this service (which then needs https); here,
#   the page's address stands in `serving.origins`, and `LEKHAI_API_KEY` is set: the page asks for that key once a tab
#   (`DEPLOY.md` has the steps). A page built with **Lovable** calls `POST /v1/scripts` and needs the same two things.
# - **Supabase** is a PostgreSQL server with accounts. `LEKHAI_DATABASE_URL` names it: answers are then kept there,
#   still in one history for all who ask through `lekhai serve`. The rules in `supabase.sql`, by which nobody reads
#   another's scripts, hold for a page of yours that signs people in through Supabase; ours does not.
# - **More than one machine**: the engine may be any OpenAI-compatible server. With a graphics card, on one terminal
#   `vllm serve ./merged --port 9000`, on another
#   `lekhai serve --engine http://localhost:9000/v1 --model ./merged --grammar vllm` (vLLM 0.11 or later; we wrote that
#   by its documentation and have not run it). A model elsewhere is changed there: the swap above is for files here.
#
# A header of the page (CSP) tells browsers what it may load and whom it may call, `'self'` being its own address. So
# even a script smuggled into a text could neither run nor send anything away.

# %%
page = client.get("/")
policy = dict(rule.split(" ", 1) for rule in page.headers["content-security-policy"].split("; "))
allowed = {name: where for name, where in policy.items() if where != "'none'"}
print(f"{page.status_code}, {len(page.content):,} bytes; everything forbidden but", allowed)
print("only its own address:", set(allowed.values()) == {"'self'"})

# %% [markdown]
# ### Explanation
# With a person at the keyboard, fields and a button send an order to the same service, by this function.


# %%
def order(**wish):
    return readable(contract.show(client.post("/v1/scripts", json=wish).json()["markdown"]))


order(**request)

# %% [markdown]
# ### Explanation
# What can be chosen are the names of the data; they come from the service, as for the page, and where a recipe has none
# there is one box for the message. A headless run has nobody to fill it in, and only counts them.

# %%
choices = client.get("/v1/choices").json()
print(f"names to choose from: {len(choices['industries'])} for the {words.group}, {len(choices['tones'])} for the tone")
if is_interactive():
    from ipywidgets import interact_manual

    from lekhai_helpers.ship.order_widgets import controls

    interact_manual(order, **controls(choices, request))

# %% [markdown]
# ## A model that calls tools
#
# ### Explanation
# A model knows nothing of today. It can be taught to ask for what it does not know: instead of an answer it writes a
# *call*, a name and arguments in JSON. The program around it makes the call and hands the reply back, and the model
# answers from that. Which tools there are, the contract says; where there are none, the cells below say so and pass on.

# %%
tools = contract.tools
for tool in tools:
    print(json.dumps(tool["function"], ensure_ascii=False, indent=1))
print(f"{len(tools)} tool(s) in the contract {contract.name!r}")

# %% [markdown]
# ### Key Concepts
# **Tool call:** text that a program acts on. **Signature:** which arguments a tool takes and of which kind. **Mock:** a
# stand-in that answers like the real thing; here it makes up the weather, always the same for a place and a day, unless
# the environment holds a key to the real service.
#
# *Interview question:* Where does a model's tool call become dangerous? *A good answer:* where it is run as it comes.
# The text is a wish of a machine that others can talk to: check the name and the arguments against the signature, run
# only what is on your list, and give errors back as replies, so that the model may put them right.

# %% [markdown]
# ### Explanation
# One question to the model, through the service, with the whole conversation so far.


# %%
def ask(messages):
    answer = client.post("/v1/chat/completions", json={"messages": messages})
    return answer.json()["choices"][0]["message"]["content"]


# %% [markdown]
# ### Explanation
# The whole loop. The first text is the model's own. If it is a call, the reply follows, and then the model's answer; if
# it speaks, there is nothing to do. A weak model may call again and again instead of answering; the loop then ends
# after a few rounds, without an answer.

# %%
from lekhai_helpers.measure.evaluation import brief_messages
from lekhai_helpers.ship.tool_loop import converse, replies_to

talk = brief_messages(form.prompt(form.example(settings), settings), settings)
turns = converse(ask, talk, tools) if tools else []
for turn in [*talk[1:], *turns] if tools else []:
    print(f"{turn['role']}: {turn['content']}")
print(f"{len(turns)} turn(s) after the question" if tools else "no tools: this model only writes")

# %% [markdown]
# ### Explanation
# What does the contract say of that first text? Without a call it says nothing about whether one was needed; a model
# that has learned for a few steps only may not call at all.

# %%
said = contract(turns[0]["content"]) if tools else None
calls = said.facts.get("calls", 0) if said else 0
print(f"{calls} call(s)", *(said.problems or ["nothing is broken"]) if said else ["nothing to check"], sep="; ")

# %% [markdown]
# ### Explanation
# So that the loop can be seen whatever the model has learned: a call from the examples it learned from, in place of its
# first text; where they have none, a made-up one. The tool is asked, and the reply is what the model is then shown.

# %%
from lekhai_helpers.prepare.dataset import load_examples
from lekhai_helpers.prepare.tools import Call
from lekhai_helpers.prepare.weather import client as weather

learned = [row["completion"][0]["content"] for row in load_examples(phase.require("dataset"), "train")] if tools else []
call = next((text for text in learned if contract(text).facts.get("calls") and contract(text).ok), "")
if tools and not call:
    print("no call was learned; this one is made up:")
    call = Call(tools[0]["function"]["name"], {"location": "Dhaka"}).to_text()
reply = replies_to(call, tools)
print(type(weather()).__name__ if tools else "no tool is asked", call, reply, sep="\n")

# %% [markdown]
# ### Explanation
# The model's answer to that reply. The contract then holds every figure in it against the tool's.

# %%
if call:
    told = [{"role": "assistant", "content": call}, {"role": "user", "content": reply}]
    print(ask([*talk, *told]))

# %% [markdown]
# ### Explanation
# And what must never happen: a call for a tool that does not exist, and one that is cut off in the middle. Neither
# crashes anything; both come back as a sentence.

# %%
if call:
    name = tools[0]["function"]["name"]
    print(replies_to(call.replace(name, "open_the_door"), tools))
    print(replies_to(call[: len(call) // 2], tools))

# %% [markdown]
# ### Explanation
# We close the counter: service, engine and store. The check asserts the service's promises, not the quality of one
# answer; and, where there are tools, that a call is answered and a wrong one is told what is wrong.

# %%
from lekhai_helpers.core.run_folder import write_json

service.stop()
board.engine.close()
store.close()
assert answer.status_code == 200 and body["id"] == found[0]["id"] and wrong.status_code == 422
assert all(one.status_code == 200 for one in [*answers, after]) and refused.status_code == 422
assert bool(call) == bool(tools) and ("error" in replies_to(call[: len(call) // 2], tools)) == bool(tools)
kept = write_json(phase.folder / "integration.json", {"request": request, "answer": body, "tool_turns": turns})
figures = {"seconds": body["seconds"], "contract_ok": body["contract"]["ok"], "swap": swapped.status_code}
figures |= {"tools": len(tools), "calls_of_the_model": calls}
manifest = phase.finish({"integration": kept}, figures)

# %% [markdown]
# ## What this did not show
# Many people at once for hours, a graphics card, or an engine on another machine. There are no accounts: everyone who
# asks through `lekhai serve` shares one history. The service limits itself (size, length, time, queue), and its tests
# send it what an attacker would: bodies that are no JSON or nested ten thousand deep, wrong keys, forms of other pages,
# a foreign name turned to this machine, paths out of the models' folder, a schema made to keep the engine busy. Nobody
# from outside has tried, and no expert has looked.
