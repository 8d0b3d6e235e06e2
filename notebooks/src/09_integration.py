# %% [markdown]
# # How does an app talk to the model?
#
# **Goal.** Put the exported model behind a small web service (an *API*), ask it for a script as an app would, and see
# what a page built with Lovable, a database at Supabase and a site on Vercel need from it.
#
# **Needs** `exported_model` from notebook 08. **Makes** `integration`: one request and its answer.

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
# We open the run and load the exported model, the merged folder of notebook 08. A service only writes, so it is loaded
# with plain Transformers, without the training engine.

# %%
from lekhai_helpers.core.run_folder import open_phase
from lekhai_helpers.learn.model import generate, load_plain

phase = open_phase("09_integration", RECIPE, PROFILE, RUN, OVERRIDES)
settings = phase.settings
model, tokenizer = load_plain(phase.require("exported_model") / "merged")
print(phase.opening())

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
# The writer: a function from request to text. One at a time, because one model answers one caller at once here; a lock
# lets the others wait in line.

# %%
from threading import Lock

from lekhai_helpers.measure.evaluation import brief_messages

one_at_a_time = Lock()


def writer(asked: ScriptRequest) -> str:
    """Write one script for a request."""
    with one_at_a_time:
        return generate(model, tokenizer, [brief_messages(brief_prompt(asked), settings)], settings.decoding, 1)[0].text

# %% [markdown]
# ### Explanation
# The service itself. `create_app` checks what comes in, calls the writer, checks the script against the contract, and
# answers in a form that programs can read (JSON). We start it on this machine only, on a free port.

# %%
from lekhai_helpers.ship.serving import LocalService, create_app

service = LocalService(create_app(writer, "lekhai"))
service.start()

# %% [markdown]
# ### Key Concepts
# **API:** a counter at which programs order from each other. **HTTP request:** the order form. **JSON:** the form's
# language. **Health check:** "are you open?", asked by machines every few seconds.
#
# *Interview question:* Why validate the model's output on the server? *A good answer:* a model can always write
# something odd. Our service still returns the text, but says in `contract.ok` and `contract.problems` whether the form
# was kept, so that the page can show it, ask again, or refuse it.

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
# And the answer: the Markdown, the parsed rows (for a page to draw), the contract's verdict, the model's name and the
# time it took.

# %%
body = answer.json()
print(json.dumps(body | {"markdown": body["markdown"][:200]}, ensure_ascii=False, indent=1)[:1500])

# %% [markdown]
# ### Explanation
# A wrong order gets a clear reply, not a crash. Here brand and product are missing and the film is an hour long.

# %%
wrong = client.post("/v1/scripts", json={"industry": "চা", "duration_seconds": 3600})
print(wrong.status_code, json.dumps(wrong.json(), ensure_ascii=False, indent=1)[:900])

# %% [markdown]
# ### Explanation
# What the three services around it need:
#
# - **Lovable** (the page): the address of `POST /v1/scripts`, and that our service lists the page's address as an
#   allowed origin (`create_app(..., origins=["https://your-page.example"])`).
# - **Supabase** (the store): one row per script. The line below shows its fields, taken from the answer we just got.
# - **Vercel** (the site): one environment variable with our service's address. The model itself does not run there.

# %%
record = {"brand": request.brand, "industry": request.industry, "tone": request.tone, "model": body["model"]}
record |= {"markdown": body["markdown"][:60], "valid": body["contract"]["ok"], "seconds": body["seconds"]}
record

# %% [markdown]
# ### Explanation
# With a person at the keyboard, two menus and a button do the same through the same writer. A headless run has nobody
# to press it, and skips the widgets.

# %%
from lekhai_helpers.core.notebook import is_interactive

if is_interactive():
    import ipywidgets

    ipywidgets.interact_manual(
        lambda industry, tone, brand, product: print(
            writer(ScriptRequest(industry=industry, tone=tone, brand=brand, product=product, duration_seconds=20))
        ),
        industry=["চা", "ব্যাংক", "রং"], tone=["হাস্যরস", "আবেগঘন"], brand="শিশিরকণা", product="দুধ চা",
    )  # fmt: skip

# %% [markdown]
# ### Explanation
# We close the counter and keep request and answer. The check asserts the service's promises, not the quality of one
# script.

# %%
from lekhai_helpers.core.run_folder import write_json

service.stop()
assert answer.status_code == 200 and set(body) >= {"markdown", "rows", "contract", "model", "seconds"}
assert wrong.status_code == 422 and not service.running
kept = write_json(phase.folder / "integration.json", {"request": request.model_dump(), "answer": body})
figures = {"seconds": body["seconds"], "contract_ok": body["contract"]["ok"]}
manifest = phase.finish({"integration": kept}, figures)

# %% [markdown]
# ## What this did not show
# Many people at once, accounts, or a model swapped while requests run.
