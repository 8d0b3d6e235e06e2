# %% [markdown]
# # Does it still work on a laptop?
#
# **Goal.** Write the kept model as files that run in llama.cpp, Ollama and LM Studio, check that they read a
# brief exactly as the notebook does, and find the smallest one that still does the job.
#
# **Needs** `kept_model` from notebook 10. **Makes** `gguf`: the files, a Modelfile, and the report of the whole run.

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
# We open the run and pick up the kept model.

# %%
from lekhai_helpers.core.run_folder import open_phase
from lekhai_helpers.prepare.bases import load_pointer

phase = open_phase("12_portability", RECIPE, PROFILE, RUN, OVERRIDES)
settings = phase.settings
kept = load_pointer(phase.require("kept_model"))
print(phase.opening(), kept.sentence, sep="\n")

# %% [markdown]
# ### Explanation
# **GGUF** is one file that holds weights, dictionary and settings together. llama.cpp's own converter writes it in 16
# bits. We work on a copy, because the converter wants one more file beside the weights.

# %%
import shutil

from lekhai_helpers.ship.quantize import convert_to_gguf

source = phase.folder / "source"
shutil.copytree(kept.path, source, dirs_exist_ok=True)
folder = phase.folder / "gguf"
folder.mkdir(exist_ok=True)
files = {"f16": convert_to_gguf(source, folder / f"{settings.recipe}-f16.gguf")}
shutil.rmtree(source)

# %% [markdown]
# ### Explanation
# Now the smaller ones. The number says roughly how many bits each weight keeps. In a model this narrow many rows
# cannot be divided as the smallest formats want, and llama.cpp keeps those a little larger.

# %%
from lekhai_helpers.ship.quantize import quantize

for kind in settings.export.quantizations:
    if kind != "f16":
        files[kind] = quantize(files["f16"], folder / f"{settings.recipe}-{kind}.gguf", kind)
for kind, path in files.items():
    print(f"{kind:8} {path.stat().st_size / 1e6:8.1f} MB")

# %% [markdown]
# ### Key Concepts
# **GGUF:** a file format for running models without Python. **Q4_K_M:** a little under five bits a weight, more in
# a model as narrow as ours. **Parity:** two forms of a model get exactly the same tokens for the same brief.
#
# *Interview question:* Your model is good in the notebook and talks nonsense in Ollama. Why? *A good answer:* most
# often another chat template or other special tokens; then a tokenizer that cuts otherwise; then a quantisation that
# took too much. Check in this order.

# %% [markdown]
# ### Explanation
# Two checks need material, which this cell prepares: the tokenizer we trained with, and briefs put together by its
# template. The briefs are the *held-out* ones: no model before this notebook has answered them, so this is the last
# and fairest exam.

# %%
from transformers import AutoTokenizer

from lekhai_helpers.core.recipe import data_file
from lekhai_helpers.measure.evaluation import brief_messages
from lekhai_helpers.prepare.dataset import load_briefs
from lekhai_helpers.ship.quantize import LlamaServer, template_differences, token_differences

tokenizer = AutoTokenizer.from_pretrained(kept.path)
briefs = load_briefs(data_file(settings.evaluation.briefs), settings.evaluation.limit, part="heldout")
prompts = [brief_messages(brief.prompt, settings) for brief in briefs]
rendered = [tokenizer.apply_chat_template(p, add_generation_prompt=True, tokenize=False) for p in prompts]

# %% [markdown]
# ### Explanation
# Both checks at once. *Cut otherwise* counts texts (briefs, scripts, odd cases) whose token ids differ between the
# GGUF file and our tokenizer. *Put together otherwise* counts briefs that the template inside the file lays out
# differently. Both must be 0. This proves that the file reads the same; whether it writes as well comes next.

# %%
odd = ["| Visual | Audio |\n|---|---|\n| ক্লোজ-আপ | ভিও: ৳৫০০, ১২৩! |", "দুটি  ফাঁকা ঘর", "ক্ষুধা ও স্বাস্থ্য — “উদ্ধৃতি”"]
scripts = phase.ledger.responses("sft")["text"].head(8).tolist()
with LlamaServer(files["f16"]) as server:
    wrong_cuts = token_differences(server, tokenizer, rendered + scripts + odd)
    wrong_form = template_differences(server, tokenizer, prompts)
print(f"cut otherwise: {len(wrong_cuts)} of {len(rendered + scripts + odd)}; put together otherwise: {len(wrong_form)}")

# %% [markdown]
# ### Explanation
# Now the exam, the part that matters: does each file still do the job? Each writes the same briefs, in a process of its
# own whose memory we can weigh. The contract counts again.

# %%
import time

from lekhai_helpers.measure.evaluation import summarize_stage, write_scripts


def examine(kind: str) -> dict:
    """Let one file write the briefs and return its row of the table."""
    with LlamaServer(files[kind], context=settings.model.max_seq_length, slots=8) as server:
        began = time.monotonic()
        rows = write_scripts(server.writer(settings.decoding), briefs, settings, settings.evaluation.quant_seeds)
        took = {"seconds": time.monotonic() - began, "memory": server.peak_memory_mb(), "load": server.load_seconds}
    return {"kind": kind, "rows": rows} | took

# %% [markdown]
# ### Explanation
# One file after the other, never two at once, or their speeds would spoil each other.

# %%
examined = [examine(kind) for kind in files]

# %% [markdown]
# ### Explanation
# *valid_share* is the share of valid tables among *texts*, and it decides. *tokens_per_second* adds up several texts
# written side by side (eight at once), so one reader waits longer than it suggests. *load_seconds* is the start.

# %%
import pandas as pd

table = []
for found in examined:
    figures = summarize_stage(phase.ledger, f"gguf-{found['kind']}", found["rows"])
    row = {"file": files[found["kind"]].name, "size_mb": round(files[found["kind"]].stat().st_size / 1e6, 1)}
    row |= {"load_seconds": found["load"], "peak_memory_mb": round(found["memory"])}
    row |= {"tokens_per_second": round(sum(r["tokens"] for r in found["rows"]) / found["seconds"], 1)}
    table.append(row | {"valid_share": figures["valid_tables"], "texts": figures["texts"]})
pd.DataFrame(table).set_index("file")

# %% [markdown]
# ### Explanation
# The same as a picture, one panel each for size, speed and valid tables.

# %%
from lekhai_helpers.core.plots import quant_tradeoff

quant_tradeoff(pd.DataFrame(table))

# %% [markdown]
# ### Explanation
# The recommendation, by rule: the smallest file whose share of valid tables is at most 10 percentage points below
# the 16-bit file's (80% allows 70%).
# A small file can ruin a small model without any tool saying so, which is why the contract decides and not the size.

# %%
from lekhai_helpers.ship.quantize import recommend, write_modelfile

recommended = recommend(table)
print(f"recommended: {recommended['file']}, {recommended['size_mb']} MB, {recommended['valid_share']:.0%} valid")

# %% [markdown]
# ### Explanation
# A text from the recommended file, written the way any other program would ask (the OpenAI-compatible route).

# %%
with LlamaServer(folder / recommended["file"], context=settings.model.max_seq_length, slots=1) as server:
    sample = server.chat(prompts[0], settings.decoding)
print(sample)

# %% [markdown]
# ### Explanation
# For Ollama: a Modelfile with the template the model was trained with (where that is not our own, Ollama reads it from
# the GGUF itself). Then `ollama create lekhai -f
# Modelfile` and `ollama run lekhai` on your own machine.

# %%
print(write_modelfile(folder, recommended["file"], settings, tokenizer.chat_template).read_text())

# %% [markdown]
# ### Explanation
# The plan also names EXL2, a format for graphics cards. Whether it makes sense here depends on the card.

# %%
from lekhai_helpers.ship.quantize import exl_sentence

print(exl_sentence())

# %% [markdown]
# ### Explanation
# The check: same cuts, same form, every file loaded and answered. Then the manifest and the report of the whole run.

# %%
assert not wrong_cuts and not wrong_form, "the GGUF is not the same model: see the two checks above"
assert all(len(found["rows"]) == len(briefs) * len(settings.evaluation.quant_seeds) for found in examined)
figures = {"files": table, "recommended": recommended["file"], "token_differences": 0, "template_differences": 0}
manifest = phase.finish({"gguf": folder}, figures)

# %% [markdown]
# ### Explanation
# One page for people who do not open notebooks: before and after, curves, tables, and what was not shown.

# %%
from lekhai_helpers.measure.report import build_report

page = build_report(phase.run, phase.ledger)
print(phase.show(page))

# %% [markdown]
# ## What this did not show
# Speed on your laptop: the figures above are this machine's. And with so few texts, files
# that differ by one or two valid tables cannot be told apart.
