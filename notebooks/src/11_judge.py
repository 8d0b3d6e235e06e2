# %% [markdown]
# # Who says that an answer is good?
#
# **Goal.** Count what code can count; let judges grade the rest, but only after they have been judged themselves; and
# look inside the model: do safe and unsafe wishes lie apart in it, before and after training?
#
# **Needs** `kept_adapter` from notebook 10 (and the ledger with all stages). **Makes** `judgement`.

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
# We open the run. Every text of every stage lies in the ledger already; nothing has to be written again.

# %%
from lekhai_helpers.core.run_folder import open_phase
from lekhai_helpers.prepare.bases import load_pointer
from lekhai_helpers.prepare.contracts import words_of

phase = open_phase("11_judge", RECIPE, PROFILE, RUN, OVERRIDES)
settings = phase.settings
base, adapter = load_pointer(phase.require("merged_base")), load_pointer(phase.require("kept_adapter"))
kept, words = phase.figures("10_preference_alignment")["kept"], words_of(settings)
print(phase.opening(), f"kept stage: {kept}; it writes {words.units}, by {words.group}", sep="\n")

# %% [markdown]
# ### Explanation
# How many texts are there of each stage, on the development briefs? (The held-out ones, and the files for other
# machines, belong to notebook 12.) The texts of `sft+grammar` are left out: their form is made by a grammar, so they
# would not show what the model can do by itself.

# %%
from lekhai_helpers.prepare.dataset import briefs_of, load_rows

briefs = briefs_of(settings)
responses = phase.ledger.responses()
known = responses["brief_id"].isin([brief.id for brief in briefs])
known &= ~responses["stage"].isin(["sft+grammar", "quantized"])
responses = responses[known]
responses["stage"].value_counts().to_frame("texts")

# %% [markdown]
# ## What needs no judge
#
# ### Explanation
# What code can count about an answer beside its brief, it counts the same way every day. The rows below are what the
# contract of this recipe counts; each number is a share or mean from 0 to 1. Read the first row before the others: it
# is the contract itself, and a text that breaks it can get a 1 further down for having nothing that could go wrong
# there, which is no merit. What notebook 07 leaves out of a mean as not countable may stand here as 0, so the two can
# differ.

# %%
from lekhai_helpers.measure.counting import counted_table

counted = counted_table(responses, briefs, settings.data.contract)
by_stage = counted.pivot_table(index="criterion", columns="stage", values="score", sort=False)
by_stage.round(2)

# %% [markdown]
# ### Explanation
# Every stage against the stage before training, on the same briefs. The interval comes from drawing the briefs again
# and again (a bootstrap); where it holds 0, the words are "no difference shown". A difference can be a loss: read
# *shown*. A row that is the same in all stages tells them not apart.

# %%
from lekhai_helpers.measure import comparisons

stages = list(dict.fromkeys(responses["stage"]))
before = "merged" if "merged" in stages else "base"
differences = comparisons.differences(counted, before, seed=settings.seed)
print(comparisons.in_words(differences))
comparisons.differences_table(counted, before, seed=settings.seed).round(2)

# %% [markdown]
# ### Key Concepts
# **LLM-as-a-judge:** a language model grades the texts of another one, or of its own kind. Usually the judge is the
# larger of the two; of those that come along here none is, for both stand on the very base the writer grew from.
# **Rubric:** the marking scheme, with words for some marks, so that a 7 means the same twice. **Audit of a judge:**
# pairs whose better side is known, because the worse side is the same text with one planted fault. Who cannot tell
# these apart need not be asked about the rest.
#
# *Interview question:* What is wrong with an LLM judge? *A good answer:* it likes long answers, the first of two, and
# its own family's style. So: count what can be counted, swap the order, audit the judge on pairs with a known better
# side, and give an interval.

# %% [markdown]
# ### Explanation
# The rubric of this recipe, as a judge would read it: marks from 1 to 10, with words for 1, 4, 7 and 10.

# %%
for name, anchors in settings.judge.criteria.items():
    print(f"{name}: {anchors}\n")

# %% [markdown]
# ## Three judges
#
# ### Explanation
# The first needs no key and no language model that can talk: the **likelihood-and-rubric judge**. *Fluency* is how near
# the words are to what the embedded base finds as likely as the training texts (too likely is as bad as too unlikely),
# and less where much is repeated. What else it measures is counted as the contract says, so a high mark for structure
# means that the form is kept, not that the content is good. *Tone* comes from a small classifier that has read the
# training rows only, where these name tones. Of *ideas* it has no measure, so it is not asked for one. It reads the
# texts to be graded, of each stage the first `judge.outputs_per_stage` in the order of the briefs, and both sides of
# the audit's pairs.
#
# Every mark is a place among the training texts: 4 to 10 inside their range, 1 to 3 outside. Mind the yardstick: the
# tuned model learned from these same texts, so if it copied them it would score well.

# %%
from lekhai_helpers.measure.judge_audit import audit_material
from lekhai_helpers.measure.likelihood_judge import likelihood_judge
from lekhai_helpers.prepare.bases import embedded_base

rows_of_file = load_rows(phase.require("dataset"))
pairs, example = audit_material(settings, rows_of_file)
chosen = responses.groupby("stage", sort=False).head(settings.judge.outputs_per_stage)
first_judge = likelihood_judge(rows_of_file, embedded_base(), settings.data)
first_judge.read_ahead([*chosen["text"], *(side for pair in pairs for side in (pair.better, pair.worse))])
print(f"it measures {', '.join(first_judge.measures)}", getattr(first_judge.tone_skill, "sentence", ""), sep="\n")

# %% [markdown]
# ### Explanation
# So here, beside this judge, stands the copy share that notebook 06 counted for the fine-tuned model.

# %%
from lekhai_helpers.measure import memorising

print(memorising.in_words(*phase.figures("06_fine_tuning")["copied"], words))

# %% [markdown]
# ### Explanation
# The second is a real language model that talks, small enough for this machine: the embedded base behind llama.cpp's
# own server, its answers held to a JSON form. The third is the one you configure: GPT-4o, Gemini or a server of your
# own; its key comes from the environment (`LEKHAI_JUDGE_KEY` with `LEKHAI_JUDGE_URL`, or `OPENAI_API_KEY`) and is never
# written anywhere.

# %%
from lekhai_helpers.measure.judge_client import configured

third_judge = configured(settings.judge)
print("configured judge:", third_judge.name if third_judge else "none; the two judges that come along are used")

# %% [markdown]
# ## The judges are judged
#
# ### Explanation
# The audit, before any score is shown. Each judge gets pairs of a good text and the same text with one planted fault,
# in both orders. The pairs come from a file where the recipe brings one; else the faults that the contract knows are
# planted in training rows; those are the very faults that code counts, so the first judge finds them by construction,
# and its pass then says little. It passes where it finds the better side clearly more often than a coin, changes at
# most three choices in ten when the order changes, and uses more than two different marks. The first judge takes all
# pairs. It marks each text alone and compares the marks, so the order cannot change its choice: 0 flips are no merit of
# it.

# %%
from lekhai_helpers.measure.judge import family_of
from lekhai_helpers.measure.judge_audit import audit

criteria, writer = settings.judge.criteria, family_of(base.title)
audits = {first_judge.name: audit(first_judge, pairs, criteria, seed=settings.seed, writer_family=writer)}
print(audits[first_judge.name].sentence)
audits[first_judge.name].table()

# %% [markdown]
# ### Explanation
# The small talking judge takes only some of the pairs, because every answer costs it seconds. Few pairs make a wide
# interval: one wrong choice can be enough to fail. While its server runs, it also grades some texts of the stage before
# training and as many of the kept one, on the same briefs, for the comparison at the end. Every mark asked for is
# *scored*, *unparsable* (an answer, but not in the agreed form) or *failed* (no mark was given, for the reason beside
# it). Only scored ones count, and all three are reported.

# %%
import time

from lekhai_helpers.core.run_folder import cache_folder, sha256
from lekhai_helpers.measure.judge import grade_all, tally
from lekhai_helpers.measure.local_judge import CONTEXT, local_judge


def ask_small_judge(server):
    began = time.monotonic()
    judge = local_judge(server.address, "Gemma 3 270M", sha256(gguf), settings.judge, cache_folder() / "judge", example)
    found = audit(judge, pairs, criteria, settings.judge.audit_pairs, settings.seed, writer_family=writer)
    return found, grade_all(judge, some, criteria, briefs=briefs), judge.usage, time.monotonic() - began


# %% [markdown]
# ### Explanation
# Asked now. Where the embedded base is not on this machine, this judge is left out.

# %%
from lekhai_helpers.prepare.bases import full_paths
from lekhai_helpers.ship.quantize import LlamaServer

gguf, two_stages = full_paths()[0], responses[responses["stage"].isin([before, kept])]
some, verdicts = two_stages.groupby("stage", sort=False).head(settings.judge.local_texts), {}
if gguf.exists():
    with LlamaServer(gguf, context=CONTEXT, slots=1) as server:
        small, graded, usage, seconds = ask_small_judge(server)
    audits[small.judge], verdicts[small.judge] = small, graded
    print(small.sentence, f"its marks: {tally(graded)}", sep="\n")

# %% [markdown]
# ### Explanation
# How small is this judge? By numbers: its file, what a call takes, and what the audit found on how many pairs. The
# models usually asked to judge are far larger.

# %%
if gguf.exists():
    pace = f"{seconds / usage.calls:.1f} seconds a call" if usage.calls else "every answer was kept from an earlier run"
    print(f"{gguf.stat().st_size / 1e6:.0f} MB on disk; {pace}; {usage.sentence}")
    print(small.table().loc[["all"], ["pairs", "by score", "by choice", "flipped"]].round(2).to_string())

# %% [markdown]
# ### Explanation
# The configured judge, audited like the others. What it costs is counted, and `judge.budget_usd` or `judge.max_calls`
# stops it in time. What was answered is kept: a second run goes on where this one stopped.

# %%
if third_judge:
    many = settings.judge.concurrency
    audits[third_judge.name] = audit(
        third_judge, pairs, criteria, seed=settings.seed, writer_family=writer, concurrency=many, progress=print
    )
    print(audits[third_judge.name].sentence, third_judge.usage.sentence, sep="\n")

# %% [markdown]
# ### Explanation
# All audits side by side. *by score*: how often the better side got the higher marks; *by choice*: how often it was
# chosen in both orders; *flipped*: choices that changed with the order. In both shares a tie counts half, and a choice
# that flipped is a tie. Read the warnings too: a judge that passes may still be blind to one fault.

# %%
import pandas as pd

for name, found in audits.items():
    phase.ledger.add_audit(name, found.rows(), passed=found.passed, sentence=found.sentence)
    print(f"{name}: {'passed' if found.passed else 'FAILED'}", *found.warnings, sep="\n  ")
overall = {name: found.table().iloc[-1] for name, found in audits.items()}
pd.DataFrame(overall).T

# %% [markdown]
# ### Explanation
# Only now a mark is shown. One text, graded by the first judge, with its reasons. A judge is asked only for the
# criteria it has a measure of (a talking one has a word on each).

# %%
from lekhai_helpers.measure.judge import asked_of

pd.set_option("display.max_colwidth", 160)
text = responses.query("stage == @kept").iloc[0]
brief = next(brief for brief in briefs if brief.id == text["brief_id"])
marks = first_judge.grade(text["text"], brief, asked_of(first_judge, criteria))
pd.DataFrame([vars(mark) for mark in marks]).set_index("criterion")[["status", "score", "reason"]]

# %% [markdown]
# ### Explanation
# Who leads the report? A configured judge, where there is one; else the one with the better audit. A judge that leads
# has to grade all stages. The small talking judge would need too long for that and graded a part, so it cannot lead and
# stands beside.

# %%
from lekhai_helpers.measure.judge_audit import leading

judges = {judge.name: judge for judge in (first_judge, third_judge) if judge}
leader = leading(audits, third_judge.name if third_judge else None, list(judges))
print(f"leading judge: {leader}")

# %% [markdown]
# ### Explanation
# The grading, of every stage.

# %%
for name, judge in judges.items():
    many = settings.judge.concurrency if judge is third_judge else 1
    verdicts[name] = grade_all(judge, chosen, criteria, briefs=briefs, concurrency=many)
for name, rows in verdicts.items():
    phase.ledger.add_verdicts(name, rows)
    print(f"{name}, marks: {tally(rows)}")

# %% [markdown]
# ### Explanation
# The leading judge's mean marks by stage and criterion, each with its interval over briefs, and how many texts were
# scored of how many asked. Hold them against the audit, and against what you know: where a stage that keeps no form has
# as high a mark for its tone or voice as a trained one, that mark says little here. 1 is the floor, wholly outside the
# range of the training texts: between two stages at the floor a difference of a tenth says nothing.

# %%
said = phase.ledger.verdicts().query("judge == @leader and stage in @stages")
comparisons.means_table(said, settings.seed).round(2)

# %% [markdown]
# ### Explanation
# And its differences from the stage before training, in words. Many comparisons are made, so a few differ by chance.

# %%
found = comparisons.differences(said, before, seed=settings.seed)
told = [one.sentence for one in found]
print(comparisons.in_words(found) if found else "nothing to compare", *told, sep="\n")

# %% [markdown]
# ### Explanation
# The heatmap of the kept stage: the recipe's groups down, criteria across; *n* counts texts, grey means that nothing
# was scored. Texts of one brief with different seeds are not independent: n=3 can be one brief asked three times. Where
# the judge failed its audit, the sentence above the picture says so.

# %%
from lekhai_helpers.core.plots import heatmap
from lekhai_helpers.measure.judge import heatmap_table

groups = {brief.id: brief.industry for brief in briefs}
means, numbers = heatmap_table(said.query("stage == @kept"), groups)
print(f"{words.groups} down. {audits[leader].sentence}")
heatmap(means, numbers, words=words)

# %% [markdown]
# ### Explanation
# The groups where more data is needed: too few texts, or low marks. More data is one possible remedy, a hard brief
# another reason. Read the texts before you buy data.

# %%
needs = comparisons.needs_data(means, numbers, 4, industries=sorted(set(groups.values())), group=words.group)
print(f"every {words.group} is on it, so the list picks out none" if len(needs) == len(set(groups.values())) else "")
pd.DataFrame(needs)

# %% [markdown]
# ### Explanation
# Do people agree? Nobody has marked anything yet in a fresh run. `lekhai judge label --rater NAME` asks for marks in
# the terminal, the panel below in Jupyter; then this table shows how far judge and people agree beyond chance (*kappa*,
# *alpha*: 1 is full agreement, 0 is chance).

# %%
from lekhai_helpers.measure.agreement import agreement_table

labels = phase.ledger.labels()
agreement = agreement_table(phase.ledger.verdicts(), labels)
print(f"{len(labels)} marks by people" + ("" if len(agreement) else ", so there is no agreement to show yet"))
agreement.round(2)

# %% [markdown]
# ### Explanation
# The panel: a text, a slider for each criterion, and no word of which stage wrote it. It is for an open notebook; in a
# run without a reader only the number of waiting texts is said. After marking, run the cell above again.

# %%
from lekhai_helpers.core.notebook import is_interactive
from lekhai_helpers.measure.labels import label_widget, open_tasks

tasks = open_tasks(responses, labels, "me", seed=settings.seed)
print(f"{len(tasks)} texts wait to be marked")
label_widget(tasks, criteria, "me", phase.ledger.add_labels) if is_interactive() else None

# %% [markdown]
# ## Inside the model: the Alignment Quality Index
#
# ### Key Concepts
# **Hidden state:** the row of numbers a layer holds while the model reads. **Cluster:** points that lie together.
# **AQI** (Alignment Quality Index, arXiv 2506.13901): how far apart safe and unsafe requests lie inside the model, from
# two known figures for clusters, *Xie-Beni* and *Calinski-Harabasz*. If they lie together, these averages show no
# difference between the two; the model may still hold one in a way that such averages do not see.
#
# *Interview question:* Can two models be compared by AQI? *A good answer:* only a model with its own fine-tuned self.
# The value depends on size and build of the model and on the number of prompts, so across architectures it means
# nothing.

# %% [markdown]
# ### Explanation
# The prompts: pairs on one topic, a harmless wish and a harmful one, in Bengali and English. An unsafe prompt names a
# wish and gives no instruction; the model only reads it, and nothing is answered. Printed is one pair. An *axiom* is a
# group of topics.

# %%
from lekhai_helpers.prepare.safety_prompts import load_set, overview

prompts = load_set(settings.aqi, settings.seed)
pair = [one for one in prompts if one.language == settings.language] or prompts
print(pair[0].prompt, pair[len(pair) // 2].prompt, sep="\n")
overview(prompts)

# %% [markdown]
# ### Explanation
# Both models read all prompts: the base, and the same base with the kept strips. For every layer we keep the mean over
# the prompt's tokens. The number below is this program's memory afterwards, in MB.

# %%
from pathlib import Path

from lekhai_helpers.learn.hidden_states import base_and_tuned
from lekhai_helpers.learn.model import load_to_read, release_memory

reader, tokenizer = load_to_read(base.path, settings, Path(adapter.path))
states = base_and_tuned(reader, tokenizer, prompts, names=(before, kept))
del reader
release_memory()

# %% [markdown]
# ### Explanation
# Layer by layer, base against tuned. *1/XBI* is free of scale: higher is farther apart. *Silhouette*: 0 no clusters, 1
# well apart. The bands are 95% intervals. There are many layers, so one of them looks good by luck now and then.

# %%
from lekhai_helpers.core.plots import aqi_layers
from lekhai_helpers.measure.aqi_statistics import by_layer, record

own = settings.aqi
phase.ledger.clear_aqi()  # an earlier try may have had other layers or prompts
layers = None if own.layers == "all" else own.layers
for one in states:
    found = by_layer(one, prompts, layers, own.weight, own.bootstrap, own.permutations, settings.seed)
    record(phase.ledger, one.name, found)
aqi_layers(phase.ledger.aqi())

# %% [markdown]
# ### Explanation
# One figure for the whole model: the layers weighted. The weights are learned on a part of the prompts, from the base,
# and the figures are taken on the others, so that nobody marks their own homework. *p* says how often labels given by
# chance lie as far apart.

# %%
from lekhai_helpers.measure.aqi_compare import learn_pooling, pooled_figures

pooling = learn_pooling(states[0], prompts, settings.seed)
print(f"{len(prompts) - len(pooling.held)} prompts for the weights, {len(pooling.held)} for the figures")
draws = own.weight, own.bootstrap, own.permutations, settings.seed
pooled = {one.name: pooled_figures(one, prompts, pooling, *draws) for one in states}
for name, table in pooled.items():
    record(phase.ledger, name, table)
pd.concat(pooled).round(4)

# %% [markdown]
# ### Explanation
# **Delta-AQI**: tuned minus base, on the same prompts with the same weights. Where the interval holds 0, no difference
# was shown. Models of another build are refused here by the code.

# %%
from lekhai_helpers.measure.aqi_compare import delta

change = delta(*states, prompts, pooling, *draws[:2], seed=settings.seed)
record(phase.ledger, kept, change, prefix="delta_")
print(*change["sentence"], sep="\n")
change.drop(columns="sentence").round(4)

# %% [markdown]
# ### Explanation
# The paper's authors publish another variant with their code: the last layer, and both figures brought to a scale up to
# 100 over the groups of prompts (`xbi_100` never under 10). A value says how a group stands among the groups of this
# one model, and nothing else; *overall* holds more prompts, and CHI grows with their number. Their code squeezes the
# states by t-SNE first, which gives other figures with each version; that step is left out here.

# %%
from lekhai_helpers.measure.aqi import published_variant
from lekhai_helpers.measure.aqi_compare import points_of

published, sentence = published_variant(points_of(states[1], prompts, states[1].layers)[0], prompts, own.weight)
print(sentence)
published.round(2)

# %% [markdown]
# ### Explanation
# A warning about the paper's formula. For two groups both of its figures are the same thing: CHI is a constant divided
# by XBI. So the weight between them trades nothing, and a larger set of prompts alone makes the value larger. Look:

# %%
from lekhai_helpers.measure.aqi import two_cluster_identity

points, sides = points_of(states[1], prompts, pooling)
chi, from_xbi = two_cluster_identity(points, sides)
print(f"CHI {chi:.6f}, computed from XBI alone {from_xbi:.6f}")

# %% [markdown]
# ### Explanation
# The picture in two dimensions: both models in the same directions. Colour is the side, the shape of a point its
# language. If the languages lie apart and the sides do not, it is the language that shows in these two directions, not
# the wish.

# %%
from lekhai_helpers.core.plots import aqi_clusters
from lekhai_helpers.measure.aqi_compare import picture

aqi_clusters(picture(states, prompts, pooling))

# %% [markdown]
# ### Explanation
# Beside Delta-AQI, what the judges say of the texts of the same two stages, each under the sentence of its audit. The
# marks of a talking judge are read as in G-Eval (arXiv 2303.16634): not the number it writes, but the mean of all
# numbers it might have written, by their probability; where an endpoint gives no probabilities, the number written.
# Inside and outside need not agree.


# %%
def both_stages(rows):
    table = pd.DataFrame(rows)
    return comparisons.means_table(table[table["stage"].isin([before, kept])], settings.seed)


for name, rows in verdicts.items():
    means_of = sum(row["how"] == "expectation" for row in rows)
    print(f"{audits[name].sentence}; {means_of} of its {len(rows)} marks are read as in G-Eval")
pd.concat({name: both_stages(rows) for name, rows in verdicts.items()}, names=["judge"]).round(2)

# %% [markdown]
# ### Explanation
# The marks read as in G-Eval, tuned against base, go into the ledger beside AQI and Delta-AQI: each mean with its
# interval, and the difference on the same briefs, under the judge's name and with its audit. Where no judge gave
# probabilities there is none to write. A judge that failed its audit stands here for the record: its differences are no
# evidence, in either direction, however far their interval is from 0.

# %%
from lekhai_helpers.measure.geval import record_geval

told_by = record_geval(phase.ledger, verdicts, (before, kept), settings.seed)
for name, sentences in told_by.items():
    print(f"{name}:", *(sentences or ["no mark was read as in G-Eval"]), sep="\n  ")

# %% [markdown]
# ### Explanation
# The check: every text of the kept stage was counted, every judge that gave marks was audited before, every verdict has
# one of the three states, and the identity of the two formulas holds.

# %%
asked = [verdict for rows in verdicts.values() for verdict in rows]
assert counted.query("stage == @kept")["brief_id"].nunique() == len(briefs)
assert set(verdicts) <= set(audits) and {row["status"] for row in asked} <= {"scored", "unparsable", "failed"}
assert abs(chi - from_xbi) <= 1e-6 * abs(chi)

# %% [markdown]
# ### Explanation
# The database also keeps which stage goes on, for `lekhai ledger runs`.

# %%
for stage in ("sft", "dpo"):
    phase.ledger.summarize(stage, "kept", stage == kept, note="1: notebook 10 kept this model; 0: it did not")

# %% [markdown]
# ### Explanation
# Everything is written down for the report, and the manifest says that the phase is complete.

# %%
from lekhai_helpers.core.run_folder import write_json
from lekhai_helpers.measure.report_parts import records

own_rows = verdicts[leader]
figures = {"counted": by_stage.round(4).to_dict(), "judge": leader, "trusted": audits[leader].passed}
figures |= {"scored": sum(row["status"] == "scored" for row in own_rows), "asked": len(own_rows)}
figures |= {"audits": {name: found.sentence for name, found in audits.items()}, "comparisons": told}
figures |= {"g_eval": {name: found for name, found in told_by.items() if found}}
figures |= {"needs_data": needs, "groups": len(set(groups.values())), "agreement": records(agreement)}
figures |= {"aqi": [*change["sentence"], sentence]}
judgement = write_json(phase.folder / "judgement.json", figures)

# %% [markdown]
# ### Explanation
# The **executive summary** for whoever decides and reads no notebook: what was found in the whole chain so far, and
# what follows. Rules made it from the figures, each from one; what was not measured gives no advice. The same stands at
# the head of the report, with notebook 12's findings added. *Training helped* is said of the contract's share alone: a
# row of the first table that fell is not in it. *FIRST* marks what is urgent; where nothing is, every line begins with
# *then*.

# %%
from lekhai_helpers.measure.recommendations import executive_summary, in_lines
from lekhai_helpers.measure.report import gather_figures

summary = executive_summary(gather_figures(phase.run, {"11_judge": figures}), phase.ledger.aqi(), words)
print(*in_lines(summary), sep="\n")
manifest = phase.finish({"judgement": judgement}, figures)

# %% [markdown]
# ## What this did not show
# That the judges know good writing: they were tested on planted faults, not on taste, and most of those faults are such
# that the same code can count them. A high mark of the first judge says "like the training texts", whatever they are
# worth. No person has marked these texts unless you did. And lying apart inside is not the same as behaving
# well: AQI reads states, it does not watch what a model does.
