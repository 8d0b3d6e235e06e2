# %% [markdown]
# # Does it still work on a laptop?
#
# **Goal.** Write the kept model as files that run in llama.cpp, Ollama and LM Studio, check that they read a
# brief exactly as the notebook does, and find the smallest one that still does the job.
#
# **Needs** `kept_model` from notebook 10, and `dataset` and `merged_base`. **Makes** `gguf`: the files, a Modelfile, a
# model card, and the report of the whole run.

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
# Will it fit, before anything is written? The size of a file follows from the shapes of the model and the bits of each
# kind, and what it takes while it runs from the file, the *KV cache* (the notes it keeps on the text so far) and some
# room to work. This estimate is for the models our recipe names, each with 4,096 tokens of text.

# %%
from lekhai_helpers.ship.fit import fit_table, published_check, recipe_bases

fit_table(recipe_bases(), settings.export.quantizations)

# %% [markdown]
# ### Explanation
# Can the estimate be trusted? Against the sizes that others published for their 4-bit files:

# %%
published_check()

# %% [markdown]
# ### Explanation
# **GGUF** is one file that holds weights, dictionary and settings together. llama.cpp's own converter writes it in 16
# bits. First disk and memory are checked; then we work on a copy, because the converter wants one more file beside the
# weights. A file gets its name only when it is whole.

# %%
import shutil

from lekhai_helpers.learn.shapes import read_config
from lekhai_helpers.ship.budgets import begin_gguf_set
from lekhai_helpers.ship.quantize import convert_to_gguf, quantize

source, folder, kinds = phase.folder / "source", phase.folder / "gguf", settings.export.quantizations
need = begin_gguf_set(folder, read_config(kept.path), kinds)
print(f"{need.what}: {need.disk_mb:,.0f} MB of disk, {need.memory_mb:,.0f} MB of memory")
shutil.copytree(kept.path, source, dirs_exist_ok=True)
files = {"f16": convert_to_gguf(source, folder / f"{settings.recipe}-f16.gguf")}
shutil.rmtree(source)

# %% [markdown]
# ### Explanation
# Which numbers of a weight may be rounded coarsely? An *importance matrix* knows: it is measured on training rows, and
# rounding then spares what is multiplied by large numbers. It is an option (`export.imatrix`).

# %%
from lekhai_helpers.prepare.dataset import load_examples
from lekhai_helpers.ship.imatrix import collect_imatrix

rows, matrix = load_examples(phase.require("dataset"), "train"), phase.folder / "imatrix.gguf"
imatrix = collect_imatrix(kept.path, rows, matrix) if settings.export.imatrix else None
print("with an importance matrix" if imatrix else "without an importance matrix; the lesson below measures one")

# %% [markdown]
# ### Explanation
# Now the smaller ones. The number says roughly how many bits each weight keeps. In a model this narrow many rows
# cannot be divided as the smallest formats want, and llama.cpp keeps those a little larger.

# %%
for kind in kinds:
    if kind != "f16":
        files[kind] = quantize(files["f16"], folder / f"{settings.recipe}-{kind}.gguf", kind, imatrix)
for kind, path in files.items():
    print(f"{kind:8} {path.stat().st_size / 1e6:8.1f} MB")

# %% [markdown]
# ### Key Concepts
# **GGUF:** a file format for running models without Python. **Q4_K_M:** a little under five bits a weight, more in
# a model as narrow as ours. **Parity:** two forms of a model get exactly the same tokens for the same brief. **KL
# divergence:** how far two models' predictions for the next token lie apart, in nats; 0 means the same predictions.
#
# *Interview question:* Your model is good in the notebook and talks nonsense in Ollama. Why? *A good answer:* most
# often another chat template or other special tokens; then a tokenizer that cuts otherwise; then a quantisation that
# took too much. Check in this order.

# %% [markdown]
# ### Explanation
# The exam's material: briefs that were *held out*. No notebook before this one asks them, so this is the last and
# fairest exam.

# %%
from lekhai_helpers.core.recipe import data_file
from lekhai_helpers.measure.evaluation import brief_messages
from lekhai_helpers.prepare.dataset import load_briefs
from lekhai_helpers.ship.llama_server import LlamaServer

briefs = load_briefs(data_file(settings.evaluation.briefs), settings.evaluation.limit, part="heldout")
prompts = [brief_messages(brief.prompt, settings) for brief in briefs]

# %% [markdown]
# ### Explanation
# Now the exam, the part that matters: does each file still do the job? Each writes the same briefs, in a process of its
# own whose memory we can weigh. The contract counts again.

# %%
import time

from lekhai_helpers.measure.evaluation import summarize_stage, write_scripts


def examine(kind: str) -> dict:
    """Let one file write the briefs and return its row of the table."""
    with LlamaServer(files[kind], context=settings.model.max_seq_length, slots=slots) as server:
        began = time.monotonic()
        rows = write_scripts(server.writer(settings.decoding), briefs, settings, settings.evaluation.quant_seeds)
        took = {"seconds": time.monotonic() - began, "memory": server.peak_memory_mb(), "load": server.load_seconds}
    return {"kind": kind, "rows": rows} | took

# %% [markdown]
# ### Explanation
# One file after the other, never two at once, or their speeds would spoil each other; in each, up to twelve texts side
# by side.

# %%
slots = min(12, len(briefs))
examined = [examine(kind) for kind in files]

# %% [markdown]
# ### Explanation
# *valid_share* is the share of valid tables among *texts*, and it decides; *low* and *high* are its 95% interval. A
# server that writes several texts at once does not write the same ones twice, so a second exam may differ by a table or
# so. *tokens_per_second* adds up texts written side by side, so one reader waits longer than it suggests.
# *load_seconds* is the start.

# %%
import pandas as pd

table, speed = [], "tokens_per_second"
for found in examined:
    figures = summarize_stage(phase.ledger, f"gguf-{found['kind']}", found["rows"])
    row = {"file": files[found["kind"]].name, "size_mb": round(files[found["kind"]].stat().st_size / 1e6, 1)}
    row |= {"load_seconds": found["load"], "peak_memory_mb": round(found["memory"])}
    row[speed] = round(sum(r["tokens"] for r in found["rows"]) / found["seconds"], 1)
    row |= {"valid_share": figures["valid_tables"], "low": figures["valid_tables_low"]}
    table.append(row | {"high": figures["valid_tables_high"], "texts": figures["texts"]})
pd.DataFrame(table).set_index("file")

# %% [markdown]
# ## The parity gate
#
# ### Explanation
# Is every file the same model? For twenty prompts, Hugging Face, each file and the Modelfile (for Ollama) must give the
# same text and the same token numbers, with one start mark and an end that all know; and on scripts that nothing was
# trained on, the 16-bit file must find the same tokens as likely as Hugging Face does.

# %%
from transformers import AutoTokenizer

from lekhai_helpers.ship.ollama_template import write_modelfile
from lekhai_helpers.ship.parity import parity_gate

template = AutoTokenizer.from_pretrained(kept.path).chat_template
modelfile = write_modelfile(folder, files[kinds[-1]].name, settings, template)
every = load_briefs(data_file(settings.evaluation.briefs), part=None)[:20]
asked = [brief_messages(brief.prompt, settings) for brief in every]
unseen = [row for part in ("validation", "test") for row in load_examples(phase.require("dataset"), part)]
shares = {found["kind"]: row["valid_share"] for found, row in zip(examined, table, strict=True)}
gate = parity_gate(kept.path, files, settings, asked, unseen[:8], modelfile, greedy=2, shares=shares)

# %% [markdown]
# ### Explanation
# Each check, what was found and, where it failed, the cause and the remedy. *Export OK* is said only if all passed.

# %%
print(gate.sentence)
gate.table()[["file", "passed", "found", "cause"]]

# %% [markdown]
# ### Explanation
# What rounding costs. *perplexity*: how surprised a file is by scripts it never saw (lower is better). *distance*: KL
# divergence from the 16-bit file. *same_next*: where both find the same next token likeliest. *greedy_equal*: answers
# without dice that are letter for letter those of Hugging Face; one other rounding early in a text is enough to part
# them, so this is shown and not asked for.

# %%
quality = gate.figures()
quality.drop(columns=["size_mb", "first_difference"])

# %% [markdown]
# ### Explanation
# The recommendation, by rule: the smallest file whose share of valid tables is at most 10 percentage points below the
# 16-bit file's, and whose predictions are at most 0.1 nats from it. A small file can ruin a small model without any
# tool saying so, which is why these two decide and not the size.

# %%
from lekhai_helpers.ship.footprint import footprint_table, recommend

table = [row | {"distance": float(quality.loc[row["file"], "distance"])} for row in table]
recommended = recommend(table)
modelfile = write_modelfile(folder, recommended["file"], settings, template)
print(f"recommended: {recommended['file']}, {recommended['size_mb']} MB: {recommended['why']}")

# %% [markdown]
# ### Explanation
# Quality against size against speed: in both pictures the upper left is the best place (the distance is drawn upside
# down); a larger bubble writes faster, and a ring marks the recommended file.

# %%
from lekhai_helpers.core.plots import quality_size_speed

quality_size_speed(pd.DataFrame(table), recommended["file"])

# %% [markdown]
# ### Explanation
# What each file takes on this machine, measured in fresh processes: start, memory, time to the first token and tokens
# per second for one reader, by the length of the prompt; and the KV cache of a long text, estimated and measured.

# %%
footprint = footprint_table(list(files.values()))
footprint.T

# %% [markdown]
# ## A lesson: the smallest file, and what mends it
#
# ### Explanation
# The smallest kind loses most. Two remedies cost nothing but a few MB: the importance matrix, and keeping sensitive
# parts larger (the dictionary, what attention reads out, and the way back from the wide layer). Each is written anew
# and held against the 16-bit file on the same scripts.

# %%
from lekhai_helpers.ship.scoring import passages, score_gguf

smallest = kinds[-1]
keep = [("token_embd", "q8_0"), ("attn_v", "q8_0"), ("ffn_down", "q8_0")]
matrix = imatrix or collect_imatrix(kept.path, rows, matrix)
remedies = {"as it is": (None, ()), "importance matrix": (matrix, ()), "and sensitive parts larger": (matrix, keep)}
trials = phase.folder / "trials"
trials.mkdir(exist_ok=True)
tried = {name: quantize(files["f16"], trials / f"{name}.gguf", smallest, *how) for name, how in remedies.items()}

# %% [markdown]
# ### Explanation
# The 16-bit file's predictions are kept on disk for a moment, and each trial is compared with them.

# %%
texts = passages(AutoTokenizer.from_pretrained(kept.path), unseen[:8])
whole = score_gguf(files["f16"], texts, keep=trials / "rows")
lesson = []
for name, path in tried.items():
    scored = score_gguf(path, texts, against=trials / "rows")
    row = {"trial": name, "size_mb": round(path.stat().st_size / 1e6, 1), "perplexity": round(scored.perplexity, 2)}
    lesson.append(row | {"distance": round(scored.kl, 4), "same_next": round(scored.same_next, 3)})
pd.DataFrame(lesson).set_index("trial")

# %% [markdown]
# ### Explanation
# And does the best of them write better scripts? It takes the exam as well.

# %%
best = min(lesson, key=lambda row: row["distance"])
files["mended"] = tried[best["trial"]]
mended = examine("mended")
del files["mended"]
valid = sum(row["ok"] for row in mended["rows"])
print(f"{smallest} {best['trial']}: {valid} of {len(mended['rows'])} valid tables; as it is: {shares[smallest]:.0%}")
shutil.rmtree(trials)

# %% [markdown]
# ### Explanation
# What does making it smaller cost? Every file against the 16-bit one, which is the kept model itself in another form,
# on the same held-out briefs and by what code can count. Where an interval holds 0, the words are "no difference
# shown".

# %%
from lekhai_helpers.measure import comparisons
from lekhai_helpers.measure.counting import counted_table

written = [{"stage": f"gguf-{found['kind']}"} | row for found in examined for row in found["rows"]]
against = comparisons.differences(counted_table(written, briefs), "gguf-f16", seed=settings.seed)
told = [comparisons.in_words(against), *(one.sentence for one in against)]
print(*told, sep="\n")

# %% [markdown]
# ### Explanation
# How does the recommended file stand beside the stages it grew from? It now answers the development briefs, at most
# twice each; the other stages have answered the same ones, up to three times. So model before training, fine-tuned,
# aligned and made small are compared on the same briefs. (Where notebook 10 kept the fine-tuned model, the aligned one
# is not its parent.)

# %%
common = load_briefs(data_file(settings.evaluation.briefs), settings.evaluation.limit)
seeds = settings.evaluation.baseline_seeds[:2]
with LlamaServer(folder / recommended["file"], context=settings.model.max_seq_length, slots=slots) as server:
    small = write_scripts(server.writer(settings.decoding), common, settings, seeds)
    sample = server.chat(prompts[0], settings.decoding)
kept_by_it = summarize_stage(phase.ledger, "quantized", small)
development = f"{kept_by_it['valid_tables']:.0%} of {kept_by_it['texts']}"
print(f"valid tables on the development briefs: {development}")

# %% [markdown]
# ### Explanation
# By what code can count: every stage's mean, then each difference from the recommended file.

# %%
responses = phase.ledger.responses()
shared = responses["brief_id"].isin([brief.id for brief in common]) & (responses["stage"] != "sft+grammar")
counts = counted_table(responses[shared], common)
family = comparisons.differences(counts, "quantized", seed=settings.seed)
print(comparisons.in_words(family), *(one.sentence for one in family), sep="\n")
counts.pivot_table(index="criterion", columns="stage", values="score", sort=False).round(2)

# %% [markdown]
# ### Explanation
# Marks beside the counts: those of the judges of notebook 11 that can grade many texts, the first one (its yardstick is
# the scripts the model learned from) and the one you configured. Each is asked only if it passed its audit in this run;
# the database knows.

# %%
from lekhai_helpers.measure.judge_client import configured
from lekhai_helpers.measure.likelihood_judge import likelihood_judge
from lekhai_helpers.prepare.bases import embedded_base
from lekhai_helpers.prepare.dataset import load_rows

first_judge = likelihood_judge(load_rows(phase.require("dataset")), embedded_base())
audits = phase.ledger.audits().query("metric == 'passed'").set_index("judge")
judges = [judge for judge in (first_judge, configured(settings.judge)) if judge]
judges = [judge for judge in judges if judge.name in audits.index and audits.loc[judge.name, "value"] == 1]
print(*(audits.loc[judge.name, "note"] for judge in judges) if judges else ["no such judge passed an audit here"])

# %% [markdown]
# ### Explanation
# They read the new texts; the marks of the other stages are in the database.

# %%
from lekhai_helpers.measure.judge import grade_all, tally

new = [{"stage": "quantized"} | row for row in small]
for judge in judges:
    verdicts = grade_all(judge, new, settings.judge.criteria, briefs=common)
    phase.ledger.add_verdicts(judge.name, verdicts)
    print(f"{judge.name}, marks: {tally(verdicts)}")

# %% [markdown]
# ### Explanation
# Their marks of all stages, and the differences from the recommended file. Few briefs make wide intervals.

# %%
opinions, marks = [], phase.ledger.verdicts()
for judge in judges:
    graded = comparisons.differences(marks[marks["judge"] == judge.name], "quantized", seed=settings.seed)
    opinions.append(f"By the marks of {judge.name}, each stage against the recommended file: ")
    opinions[-1] += comparisons.in_words(graded) if graded else "nothing to compare"
    print(opinions[-1], *(one.sentence for one in graded), sep="\n")

# %% [markdown]
# ### Explanation
# A text from the recommended file, written the way any other program would ask (the OpenAI-compatible route).

# %%
print(sample)

# %% [markdown]
# ### Explanation
# For Ollama: a Modelfile with the template the model was trained with (where that is not our own, Ollama reads it from
# the GGUF itself). Then `ollama create lekhai -f Modelfile` and `ollama run lekhai` on your own machine.

# %%
print(modelfile.read_text())

# %% [markdown]
# ### Explanation
# The plan also names EXL2, a format for graphics cards. Whether it makes sense here depends on the card.

# %%
from lekhai_helpers.ship.quantize import exl_sentence

print(exl_sentence())

# %% [markdown]
# ### Explanation
# The model card of notebook 08 was written before preference alignment, judges and files. So it is written again, for
# the kept model and beside its files, with all that the database now holds, and the licences of all it rests on; shown
# is what the card says of the judges.

# %%
from lekhai_helpers.core.run_folder import write_text
from lekhai_helpers.ship.card import model_card
from lekhai_helpers.ship.licences import card_licence, licences_text

base, merged = load_pointer(phase.require("merged_base")), phase.figures("02_sutro_fusion")
facts = {"base": base.title, "kept stage": phase.figures("10_preference_alignment")["kept"]}
facts |= {"merge_t": merged.get("merge_t")}
facts |= {} if base.licence == "see its model card" else {"base_licence": base.licence}
card = model_card(settings, phase.ledger, facts, gguf=recommended["file"])
write_text(folder / "README.md", card)
write_text(folder / "LICENCES.md", licences_text(settings, card_licence(folder)))
print(card[card.index("### Judges") : card.index("## What it is not")])

# %% [markdown]
# ### Explanation
# The check: no file differs from the model by a fault of the export, and every file answered all briefs. (A model that
# ends no answer by itself was trained so: then the gate does not say *Export OK*, and the notebook goes on.) Then the
# manifest and the report of the whole run.

# %%
assert not gate.faults, gate.sentence
assert all(len(found["rows"]) == len(briefs) * len(settings.evaluation.quant_seeds) for found in examined)
figures = {"files": table, "recommended": recommended["file"], "why": recommended["why"], "lesson": lesson}
figures |= {"parity": gate.sentence, "quality": list(gate.rows)}
figures["footprint"] = footprint.reset_index().to_dict("records")
figures |= {"comparisons": told, "stages": [comparisons.in_words(family), *(one.sentence for one in family)]}
figures |= {"graded": " ".join(opinions), "development": development}
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
# Speed on your laptop: the figures above are this machine's. And with so few texts, files that differ by one or two
# valid tables cannot be told apart by them; the distance can tell, but says nothing about form.
