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
# We open the run and pick up the kept model, and say what it writes and what its contract calls sound.

# %%
from lekhai_helpers.core.run_folder import open_phase
from lekhai_helpers.prepare.bases import load_pointer
from lekhai_helpers.prepare.contracts import words_of

phase = open_phase("12_portability", RECIPE, PROFILE, RUN, OVERRIDES)
settings = phase.settings
kept, words = load_pointer(phase.require("kept_model")), words_of(settings)
print(phase.opening(), kept.sentence, f"It writes {words.units}; counted are {words.many}.", sep="\n")

# %% [markdown]
# ### Explanation
# Will it fit, before anything is written? The size of a file follows from the shapes of the model and the bits of each
# kind, and what it takes while it runs from the file, the *KV cache* (the notes it keeps on the text so far) and some
# room to work. This estimate is for the embedded base and four others of common sizes, each with 4,096 tokens of text.

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
# What the files will be held against: texts that no weight was trained or chosen on. That is the *test* part of the
# data, since the validation part chose the checkpoint. Each text counts once, in one wording of its request. (Two
# habits of ours, the importance matrix and which parts are kept larger below, were chosen on runs like this one and on
# texts like these, so here they may look a little better than elsewhere.)

# %%
from transformers import AutoTokenizer

from lekhai_helpers.prepare.dataset import load_examples
from lekhai_helpers.ship.scoring import distinct_scripts, kept_mb, passages, score_gguf

tokenizer = AutoTokenizer.from_pretrained(kept.path)
unseen = distinct_scripts(load_examples(phase.require("dataset"), "test"), limit=settings.export.unseen)
texts = passages(tokenizer, unseen)
print(f"{len(texts)} {words.units}, {sum(len(text.ids) - text.start for text in texts)} tokens")

# %% [markdown]
# ### Explanation
# Before anything is written, disk and memory are checked: for the files, for the trials of the lesson below (one keeps
# parts at eight bits, and two files are those of the model before training), and for the predictions that are kept
# while files are compared.

# %%
from lekhai_helpers.learn.shapes import read_config
from lekhai_helpers.ship.budgets import begin_gguf_set

folder, kinds = phase.folder / "gguf", settings.export.quantizations
shapes, smallest = read_config(kept.path), kinds[-1]
kept_rows = kept_mb(texts, len(tokenizer))
need = begin_gguf_set(folder, shapes, kinds, [smallest, smallest, "q8_0", "f16", smallest], kept_rows, kept.path)
print(f"{need.what}, trials and kept predictions: {need.disk_mb:,.0f} MB of disk, {need.memory_mb:,.0f} MB of memory")

# %% [markdown]
# ### Explanation
# **GGUF** is one file that holds weights, dictionary and settings together. llama.cpp's own converter writes it in 16
# bits. It wants one more file beside the weights, so it gets a folder of its own, of links where the disk allows them.
# A file gets its name only when it is whole.

# %%
import shutil

from lekhai_helpers.ship.atomic import working_copy
from lekhai_helpers.ship.quantize import convert_to_gguf, quantize

source = working_copy(kept.path, phase.folder / "source")
files = {"f16": convert_to_gguf(source, folder / f"{settings.recipe}-f16.gguf")}
shutil.rmtree(source)

# %% [markdown]
# ### Explanation
# Which numbers of a weight may be rounded coarsely? An *importance matrix* knows: it is measured on training rows, and
# rounding then spares what is multiplied by large numbers. It is an option (`export.imatrix`).

# %%
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
# The exam's material: briefs that were *held out*. By no answer to them was anything chosen, so this is the last and
# fairest exam. (Where some have one right answer, notebooks 05 and 07 asked those too, before and after training.)

# %%
from lekhai_helpers.measure.evaluation import brief_messages
from lekhai_helpers.prepare.dataset import briefs_of
from lekhai_helpers.ship.llama_server import LlamaServer

briefs = briefs_of(settings, "heldout")
prompts = [brief_messages(brief, settings) for brief in briefs]

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
# *valid_share* is the share of *texts* that keep the contract, and it decides; *low* and *high* are its 95% interval. A
# server that writes several texts at once does not write the same ones twice, so a second exam may differ by one or so.
# *tokens_per_second* adds up texts written side by side, so one reader waits longer than it suggests. *load_seconds* is
# the start.

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
# Is every file the same model? For twenty prompts, Hugging Face and each file must give the same text and the same
# token numbers, with one start mark and an end that all know; the Modelfile (for Ollama) the same text and end. On the
# unseen texts the 16-bit file must find the same tokens as likely as Hugging Face does. And every file must end its
# answers where Hugging Face ends them, asked on four prompts, and keep its share of texts that keep the contract. These
# four are asked without dice, where a small model circles more easily: it may end fewer here than in notebook 07.

# %%
from lekhai_helpers.ship.ollama_template import write_modelfile
from lekhai_helpers.ship.parity import parity_gate

modelfile = write_modelfile(folder, files["f16"].name, settings, tokenizer.chat_template)
asked = [brief_messages(brief, settings) for brief in briefs_of(settings, None)[:20]]
shares = {found["kind"]: row["valid_share"] for found, row in zip(examined, table, strict=True)}
gate = parity_gate(kept.path, files, settings, asked, unseen, modelfile, greedy=4, shares=shares)

# %% [markdown]
# ### Explanation
# Each check, what was found and, where it failed, the cause and the remedy. *Export OK* is said only if nothing but
# rounding failed; a smaller file that lost too much by it is then named, and will not be recommended. The sentence
# counts the failures that are not rounding; the table shows those too. A file also counts as passed further down where
# only a habit of the model itself failed (cause: training), for no file can mend that.

# %%
print(gate.sentence)
gate.table()[["file", "passed", "found", "cause"]]

# %% [markdown]
# ### Explanation
# What rounding costs. *perplexity*: how surprised a file is by texts it never saw (lower is better). *distance*: KL
# divergence from the 16-bit file; *distance_low* and *distance_high* are its 95% interval, other texts (*scripts*)
# drawn. *same_next*: where both find the same next token likeliest.
#
# A smaller file can have the *lower* perplexity. That does not make it better: on a few texts the sum may fall by
# chance, and rounding flattens predictions, which helps wherever the model was too sure of the wrong token. Such gains
# and losses cancel in a perplexity; the distance counts both as change, which is why the distance decides.

# %%
quality = gate.figures()
quality[["perplexity", "distance", "distance_low", "distance_high", "scripts", "places", "same_next"]]

# %% [markdown]
# ### Explanation
# And how each file answers. *greedy_equal*: answers without dice that are letter for letter those of Hugging Face; one
# other rounding early in a text is enough to part them, so this is shown and not asked for. *stopped_share*: answers
# that ended by themselves. *passed*: the gate's verdict.

# %%
quality[["greedy_equal", "stopped_share", "valid_share", "passed"]]

# %% [markdown]
# ### Explanation
# The recommendation, by rule: the smallest file that the gate passed, whose share of sound texts is at most 10
# percentage points below the 16-bit file's, and whose predictions are at most 0.1 nats from it. A small file can ruin a
# small model without any tool saying so, which is why these decide and not the size. The sentence says which of them
# did, and where an interval holds the limit, "on the edge": other texts might have turned it. The 10 points are
# caution, no test: with a dozen texts, one or two decide.

# %%
from lekhai_helpers.ship.choice import recommend

measured = {row["file"]: row for row in gate.rows}
names = ("distance", "distance_low", "distance_high", "passed")
table = [row | {name: measured[row["file"]][name] for name in names} for row in table]
recommended = recommend(table, many=words.many)
print(f"recommended: {recommended['file']}, {recommended['size_mb']} MB: {recommended['why']}")

# %% [markdown]
# ### Explanation
# The Modelfile that ships builds on that file, so it is this one that is read back and asked: template text, end of an
# answer, file.

# %%
from lekhai_helpers.ship.parity import modelfile_checks
from lekhai_helpers.ship.parity_reference import reference

modelfile = write_modelfile(folder, recommended["file"], settings, tokenizer.chat_template)
known = reference(kept.path, tokenizer, asked)
shipped = modelfile_checks(known, modelfile, asked, settings, {recommended["file"]})
print(*(f"{check.name}: {'passed' if check.passed else 'FAILED'}, {check.found}" for check in shipped), sep="\n")

# %% [markdown]
# ### Explanation
# Quality against size against speed: in both pictures the upper left is the best place (the distance is drawn upside
# down); a larger bubble writes faster, and a ring marks the recommended file.

# %%
from lekhai_helpers.core.plots import quality_size_speed

quality_size_speed(pd.DataFrame(table), recommended["file"], words)

# %% [markdown]
# ### Explanation
# What each file takes on this machine, measured in fresh processes: start, memory, time to the first token and tokens
# per second for one reader, by the length of the prompt; and the KV cache of a long text, estimated and measured.

# %%
from lekhai_helpers.ship.footprint import footprint_table

footprint = footprint_table(list(files.values()))
footprint.T

# %% [markdown]
# ### Explanation
# And how long does somebody wait who asks the recommended file for just what it was made for? One question after the
# other, streamed as in an app: the *first token* (from then on one reads along) with the whole prompt read anew, the
# same where the system text was read before, and the *whole answer*. The median is the usual wait; the 95th percentile
# the wait of the one in twenty who waits longest. A recipe may set a goal (`serving.latency_goal_ms`). A 95th
# percentile far above its median is most often another program's doing: the sentence below says how many were at work.

# %%
from lekhai_helpers.ship.latency import measure_latency

latency = measure_latency(folder / recommended["file"], prompts, settings)
latency.table()

# %% [markdown]
# ### Explanation
# In words, with the machine: on another one all of these are others. The first token waits for the prompt to be read,
# so it grows with the length of the system text; the whole answer grows with what is written.

# %%
print(f"prompts of up to {latency.prompt_tokens} tokens.", latency.sentence)

# %% [markdown]
# ## A lesson: the smallest file, and what mends it
#
# ### Explanation
# The smallest kind loses most. A base like ours, fine-tuned on tables for a short while, once came out of its smallest
# file writing nothing but their strokes, and no tool had complained. Did that happen here?

# %%
from lekhai_helpers.ship.choice import mending_verdict, only_marks, training_verdict

for found in examined:
    written = [row["text"] for row in found["rows"]]
    print(f"{found['kind']}: {only_marks(written)} of {len(written)} texts are marks without a letter")

# %% [markdown]
# ### Explanation
# Two remedies cost nothing but a few MB: the importance matrix, and keeping sensitive parts larger (the attention, and
# the way back from the wide layer). Each is written anew and held against the 16-bit file on the same texts.

# %%
from lekhai_helpers.ship.quantize import SENSITIVE

matrix = imatrix or collect_imatrix(kept.path, rows, matrix)
remedies = {"as it is": (None, ()), "with matrix": (matrix, ()), "with matrix, larger parts": (matrix, SENSITIVE)}
trials = phase.folder / "trials"
trials.mkdir(exist_ok=True)
tried = {name: quantize(files["f16"], trials / f"{name}.gguf", smallest, *how) for name, how in remedies.items()}

# %% [markdown]
# ### Explanation
# The 16-bit file's predictions are kept on disk for a moment, and each trial is compared with them. In the last line,
# for a fair comparison, stands the next larger kind as it was written above.

# %%
larger = ([kind for kind in files if kind != smallest] or [smallest])[-1]
score_gguf(files["f16"], texts, keep=trials / "rows")
lesson = []
for name, path in ({f"{smallest} {name}": path for name, path in tried.items()} | {larger: files[larger]}).items():
    scored = score_gguf(path, texts, against=trials / "rows")
    row = {"trial": name, "size_mb": round(path.stat().st_size / 1e6, 1), "perplexity": round(scored.perplexity, 2)}
    lesson.append(row | {"distance": round(scored.kl, 4), "same_next": round(scored.same_next, 3)})
pd.DataFrame(lesson).set_index("trial")

# %% [markdown]
# ### Explanation
# A third remedy is often named: gentler training (fewer steps, smaller changes). A hint without training anew: the
# model before training had the gentlest of all, none. So its smallest file is held against its own 16-bit file, too. It
# is a hint and no bound, because that model finds these texts unlikely. (On ad scripts we once did train anew, with a
# quarter of the learning rate: there the smallest file lay farther from its own 16-bit file, not nearer.) A base that
# comes rounded has no 16-bit file: then this cell says what to do.

# %%
from lekhai_helpers.prepare.bases import rounded_base

base = load_pointer(phase.require("merged_base"))
left_out = rounded_base(base.path)
if not left_out:
    source = working_copy(base.path, phase.folder / "source")
    untrained = convert_to_gguf(source, trials / "before-f16.gguf")
    shutil.rmtree(source)
    score_gguf(untrained, texts, keep=trials / "rows")
    before = score_gguf(quantize(untrained, trials / "before.gguf", smallest), texts, against=trials / "rows")
print(left_out or training_verdict(smallest, before.kl, lesson[0]["distance"]))

# %% [markdown]
# ### Explanation
# So what is to be taken? Size and distance decide.

# %%
print(mending_verdict(lesson[-1], lesson[:-1]))

# %% [markdown]
# ### Explanation
# And does the nearest trial write better? It takes the exam as well, and stands beside those who took it above.

# %%
best = min(lesson[:-1], key=lambda row: row["distance"])["trial"]
files["mended"] = tried[best.removeprefix(f"{smallest} ")]
exams = {best: examine("mended")["rows"]}
del files["mended"]
exams |= {f"{found['kind']}, first exam": found["rows"] for found in examined if found["kind"] in (smallest, larger)}
for name, answers in exams.items():
    print(f"{name}: {sum(row['ok'] for row in answers)} of {len(answers)} {words.many}")
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
counts = counted_table(written, briefs, settings.data.contract)
against = comparisons.differences(counts, "gguf-f16", seed=settings.seed)
told = [comparisons.in_words(against), *(one.sentence for one in against)]
print(*told, sep="\n")

# %% [markdown]
# ### Explanation
# How does the recommended file stand beside the stages it grew from? It now answers the development briefs, at most
# twice each; the other stages have answered the same ones, up to three times. So model before training, fine-tuned,
# aligned and made small are compared on the same briefs. (Where notebook 10 kept the fine-tuned model, the aligned one
# is not its parent.) *quantized* is the ledger's name for the recommended file, whichever it is. Where that is the
# 16-bit one it holds the weights of its parent: a difference between the two is other dice and few texts, and shows how
# far luck can go.

# %%
common = briefs_of(settings)
seeds = settings.evaluation.baseline_seeds[:2]
with LlamaServer(folder / recommended["file"], context=settings.model.max_seq_length, slots=slots) as server:
    small = write_scripts(server.writer(settings.decoding), common, settings, seeds)
    sample = server.chat(prompts[0], settings.decoding)
kept_by_it = summarize_stage(phase.ledger, "quantized", small)
development = f"{kept_by_it['valid_tables']:.0%} of {kept_by_it['texts']}"
print(f"{words.many} on the development briefs: {development}")

# %% [markdown]
# ### Explanation
# By what code can count: every stage's mean, then each difference from the recommended file.

# %%
responses = phase.ledger.responses()
shared = responses["brief_id"].isin([brief.id for brief in common]) & (responses["stage"] != "sft+grammar")
counts = counted_table(responses[shared], common, settings.data.contract)
family = comparisons.differences(counts, "quantized", seed=settings.seed)
print(comparisons.in_words(family), *(one.sentence for one in family), sep="\n")
counts.pivot_table(index="criterion", columns="stage", values="score", sort=False).round(2)

# %% [markdown]
# ### Explanation
# Marks beside the counts: those of the judges of notebook 11 that can grade many texts, the first one (its yardstick is
# the texts the model learned from) and the one you configured. Each is asked only if it passed its audit in this run;
# the database knows.

# %%
from lekhai_helpers.measure.judge_client import configured
from lekhai_helpers.measure.likelihood_judge import likelihood_judge
from lekhai_helpers.prepare.bases import embedded_base
from lekhai_helpers.prepare.dataset import load_rows

first_judge = likelihood_judge(load_rows(phase.require("dataset")), embedded_base(), settings.data)
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
# the GGUF itself). The two lines below it are for your own machine.

# %%
print(modelfile.read_text())
print(f"ollama create {settings.recipe} -f Modelfile", f"ollama run {settings.recipe}", sep="\n")

# %% [markdown]
# ### Explanation
# EXL2 is another format, for graphics cards only. Whether it makes sense here depends on the card.

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

merged = phase.figures("02_sutro_fusion")
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
assert all(check.passed for check in shipped), [check for check in shipped if not check.passed]
assert all(len(found["rows"]) == len(briefs) * len(settings.evaluation.quant_seeds) for found in examined)
figures = {"files": table, "recommended": recommended["file"], "why": recommended["why"], "lesson": lesson}
figures |= {"parity": gate.sentence, "quality": list(gate.rows), "mended": mending_verdict(lesson[-1], lesson[:-1])}
figures |= {"footprint": footprint.reset_index().to_dict("records"), "latency": latency.figures()}
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
# Ollama and LM Studio themselves: they were not run here. What was checked is the file they read, the text their
# template makes and where it stops. Speed on your laptop: the figures above are this machine's, with one reader at a
# time. With so few texts, files that differ by one or two sound ones cannot be told apart by them; the distance can
# tell, but says nothing about form. EXL2 and EXL3 files: the cell above says where they would make sense, none was
# written. And gentler training in this run: only the model before any was rounded for comparison.
