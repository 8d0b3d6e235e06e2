# %% [markdown]
# # Can it learn to prefer the better answer?
#
# **Goal.** So far the model imitated. Now it gets pairs, a better and a worse answer to the same brief, and learns to
# lean towards the better one. Then we decide by a rule whether to keep the result.
#
# **Needs** `sft_adapter`, `merged_base`, `dataset`, `refinement`, `exported_model`. **Makes** `kept_adapter` and
# `kept_model`: the aligned ones, or the old ones.

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
# We open the run and first ask whether the settings of the alignment fit together: a contradiction found after an hour
# would cost that hour.

# %%
from lekhai_helpers.core.run_folder import open_phase
from lekhai_helpers.learn.preference import check_method
from lekhai_helpers.prepare.bases import load_pointer
from lekhai_helpers.prepare.contracts import words_of

phase = open_phase("10_preference_alignment", RECIPE, PROFILE, RUN, OVERRIDES)
settings = phase.settings
check_method(settings)
base, adapter = load_pointer(phase.require("merged_base")), phase.require("sft_adapter")
words = words_of(settings)
print(phase.opening(), f"it writes: {words.units}; a sound one is {words.one}", sep="\n")

# %% [markdown]
# ### Explanation
# How long a row may be. A curator's texts (for KTO) may be as long as the model can read; our own pairs keep to the
# length that notebook 03 chose.

# %%
from lekhai_helpers.prepare.lengths import load_max_length

dataset, limit = phase.require("dataset"), settings.model.max_seq_length
max_length = limit if settings.dpo.method == "kto" else min(load_max_length(dataset), limit)

# %% [markdown]
# ### Explanation
# Will it fit? This training holds more at once than the fine-tuning did at the same batch size: both sides of a pair
# are in the batch, so twice as many rows, and the strips lie there twice, trained and frozen. The estimate is for the
# longest row there may be. Where it would not fit, the cell stops before anything is loaded and names one setting to
# change and what that saves.

# %%
from lekhai_helpers.learn import memory
from lekhai_helpers.learn.model import unsloth_engine

unsloth_engine()
expected = memory.estimate(memory.read_config(base.path), settings, max_length, phase="dpo")
change = memory.fit(expected, memory.free_mb(settings.model.device))
assert change is None, change.sentence
expected.table()

# %% [markdown]
# ### Explanation
# It should. The model begins as the fine-tuned one of notebook 06.

# %%
from lekhai_helpers.learn.model import load_model

model, tokenizer = load_model(base.path, settings, adapter=adapter)

# %% [markdown]
# ### Key Concepts
# **DPO** (direct preference optimization, Rafailov et al. 2023): make the better answer more likely and the worse one
# less likely, compared with a frozen copy of the model (the *reference*), so that it does not run away.
# **Policy:** the model being trained. **Margin:** how much more the policy prefers the better side than the reference.
# **KTO** (Ethayarajh et al. 2024) learns from single texts with a thumb up or down, as a curator gives them.
# **ORPO** (Hong et al. 2024) needs no reference. Both are a setting away: `dpo.method`.
#
# *Interview question:* Why not take random bad text as the worse side? *A good answer:* the model can already tell
# that apart; it reaches full accuracy at once and learns nothing. The worse side must be nearly good.

# %% [markdown]
# ### Explanation
# The pairs. The better side is always an answer from the training rows. The worse side is a rejected answer where the
# data brings one, else mostly what the model itself writes for the same brief today; a few are the good answer with one
# planted defect. Both sides must have about as many tokens: a sample that is too long is cut at the end of the line
# that comes nearest, one that does not fit is drawn once more, and what still does not fit is left out and counted.
# Only a loss that counts per token (`dpo.loss: sigmoid_norm`) may take sides of unequal length. For KTO, a curator's
# file of thumbs takes the place of the pairs.

# %%
from lekhai_helpers.core.recipe import data_file
from lekhai_helpers.learn.pairs import make_pairs
from lekhai_helpers.learn.thumbs import load_thumbs
from lekhai_helpers.prepare.dataset import load_examples

if settings.dpo.method == "kto":
    material, left_out = load_thumbs(data_file(settings.dpo.thumbs), settings.system_prompt), {}
else:
    material, left_out = make_pairs(model, tokenizer, load_examples(dataset, "train"), settings, max_length)

# %% [markdown]
# ### Explanation
# The first and the last one, read by a person. Where did the worse side come from, and what makes it worse?

# %%
print(*(one.shown() for one in (material[0], material[-1])), sep="\n" + "=" * 60 + "\n\n")

# %% [markdown]
# ### Explanation
# The check. The cell stops where the two sides of a pair are the same, where they differ by more than a fifth in
# tokens, where a pair stands twice, or where a side would be cut: a side without its end teaches never to stop. From 8
# pairs on it also stops where the worse sides are longer, or shorter, by more than a tenth on average (*mean_gap*).
# Lengths may differ where the loss counts per token, for there length by itself earns nothing.
# What passes is written to a file, each line with its source and the training row it came from.

# %%
import pandas as pd

from lekhai_helpers.learn.pairs import length_figures, save_rows
from lekhai_helpers.learn.preference import check_material

checked = check_material(material, tokenizer, max_length, settings.dpo.loss)
save_rows(material, phase.folder / "pairs.jsonl")
print(f"left out: {dict(left_out) or 'none'}", length_figures(checked), sep="\n")
pd.DataFrame(checked)["source"].value_counts().to_frame("rows")

# %% [markdown]
# ### Explanation
# The lengths, drawn. Unless the loss counts per token, all points must lie in the grey band, and about as many above
# the line as below it. If most lay on one side, "longer is better" or "shorter is better" could be all there is to
# learn. (Thumbs have no second side; for them the table is shown.)

# %%
from lekhai_helpers.core.plots import pair_lengths

pair_lengths(pd.DataFrame(checked)) if "chosen" in checked[0] else pd.DataFrame(checked)

# %% [markdown]
# ### Explanation
# The alignment. *Beta* says how firmly the policy is held to the reference, *sft_weight* how much plain imitation of
# the better side stays in (for DPO; KTO has no such term and ORPO one of its own, so both pass this setting over).
# Watch *margin* and *accuracy*: both should rise slowly. On the first step both are zero, because policy and reference
# are still the same.

# %%
from lekhai_helpers.learn.preference import align

settings.table().filter(regex=r"^dpo\.", axis=0).pipe(print)
log = align(model, tokenizer, material, settings, phase.folder / "dpo", phase.ledger, max_length)

# %% [markdown]
# ### Explanation
# The curves: how the policy's liking for the better and the worse side moved away from the reference.

# %%
from lekhai_helpers.core.plots import reward_curves

reward_curves(phase.ledger.metrics("10_preference_alignment"), words)

# %% [markdown]
# ### Key Concepts
# **Alarm:** a known sign of a preference training that went wrong. Each one is printed with its evidence, also when it
# stays quiet: that nothing was found says something only where somebody looked.
#
# *Interview question:* The margin grows, so all is well? *A good answer:* not yet. The margin also grows when both
# sides become less likely and the worse one only falls faster. So look at the better side's own reward, and at what
# the model writes.

# %% [markdown]
# ### Explanation
# Three alarms over the log. *Too easy:* every pair told apart within the first tenth of the steps, at least three.
# *Better side sinking:* its reward falls while the margin grows, judged by a trend over all steps. *Flat loss:* nothing
# is learned about the pairs. Plain DPO stands at a loss of 0.693 then, the natural logarithm of 2. Where imitation is
# mixed into the loss, or for KTO (whose own loss stands at 0.5), the margin is asked instead: it stays at 0.

# %%
from lekhai_helpers.learn.alarms import log_alarms

alarms = log_alarms(log, settings.dpo, words)
print(*alarms, sep="\n")

# %% [markdown]
# ### Explanation
# The new strips are saved, once alone and once added into the base, and the briefs are read again.

# %%
from lekhai_helpers.measure.evaluation import model_writer, shown_figures, summarize_stage, write_scripts
from lekhai_helpers.prepare.dataset import briefs_of
from lekhai_helpers.ship.export import save_adapter, save_merged_16bit

new_adapter = save_adapter(model, tokenizer, phase.folder / "adapter")
new_model = save_merged_16bit(model, tokenizer, phase.folder / "merged")
briefs = briefs_of(settings)

# %% [markdown]
# ### Explanation
# The exam: the same briefs, settings and seeds as for the fine-tuned model.

# %%
from lekhai_helpers.learn.model import fold_adapter

model = fold_adapter(model)
rows = write_scripts(model_writer(model, tokenizer, settings), briefs, settings, settings.evaluation.seeds)
after = summarize_stage(phase.ledger, "dpo", rows)

# %% [markdown]
# ### Explanation
# Before and after the alignment, on the same briefs. The figures of the fine-tuned model are read back from its
# notebook.

# %%
phase.require("refinement")
before = phase.figures("07_refinement")["sft"]
pd.DataFrame({"sft": shown_figures(before, words), "dpo": shown_figures(after, words)}).round(3)

# %% [markdown]
# ### Explanation
# Two more alarms, over what is written: did the texts grow or shrink, and do fewer of them keep the contract? All five
# go into the ledger.

# %%
from lekhai_helpers.learn.alarms import drift_alarms, write_alarms

alarms += drift_alarms(before, after, words)
write_alarms(phase.ledger, alarms)
print(*alarms[-2:], sep="\n")

# %% [markdown]
# ### Explanation
# Text against text: for each brief and seed the old and the new answer are compared by what can be counted, and the
# first fact that differs decides; the contract says which facts, and in which order. The table below shows which of
# them decided how often. The *sign test* says how often a result as lopsided as this would come by chance alone.

# %%
from lekhai_helpers.measure.pairwise import compare, counting

comparison = compare(phase.ledger.responses("sft"), rows, briefs, counting(settings.data.contract))
phase.ledger.summarize("dpo", "won against sft", comparison.share, n=comparison.decided, note=comparison.sentence)
print(comparison.sentence)
pd.DataFrame(comparison.decisions).groupby(["better", "why"]).size().to_frame("texts")

# %% [markdown]
# ### Explanation
# The verdict, by a rule written before: keep the new strips only if no fewer texts keep the contract, the comparison
# does not favour the fine-tuned model (*sft*), at most 5 texts in 100 fewer stop by themselves, and the length did not
# drift by more than 15%. Otherwise the fine-tuned model goes on. KEEP means "no harm found on these briefs", not
# "people like it better", and a difference of a few texts may be chance. Both endings are fine.

# %%
from lekhai_helpers.measure.pairwise import verdict

keep, reasons = verdict(before, after, comparison, words)
print("KEEP: the aligned model goes on" if keep else "DROP: the fine-tuned model goes on", *reasons, sep="\n")

# %% [markdown]
# ### Explanation
# The winner goes on to notebook 12. If the alignment is dropped, the fine-tuned model is passed on unchanged.

# %%
from lekhai_helpers.prepare.bases import Base, save_pointer

exported = phase.require("exported_model")
old = exported / "adapter", exported / "merged"
kept_adapter, kept_model = (new_adapter, new_model) if keep else old
kept = "dpo" if keep else "sft"

# %% [markdown]
# ### Explanation
# The winner's names say which stage was kept, so that nobody has to guess later.

# %%
title = f"{settings.title}, kept stage: {kept}"
outputs = {}
for name, place in (("kept_adapter", kept_adapter), ("kept_model", kept_model)):
    outputs[name] = save_pointer(Base(str(place), title, base.licence, title), phase.folder / f"{name}.json")

# %% [markdown]
# ### Explanation
# The check: no step is missing and no loss is broken, and what is passed on is there. Then the manifest.

# %%
import math

assert len(log) == settings.dpo.max_steps and all(math.isfinite(float(entry["loss"])) for entry in log)
assert (kept_adapter / "adapter_config.json").exists() and (kept_model / "config.json").exists()
figures = {"verdict": "keep" if keep else "drop", "kept": kept, "reasons": reasons, "dpo": after}
figures |= {"method": settings.dpo.method, "pairs": length_figures(checked), "left_out": dict(left_out)}
figures |= {"alarms": [f"{one.name}: {one.words}" for one in alarms if one.rang], "comparison": comparison.sentence}
manifest = phase.finish(outputs, figures)

# %% [markdown]
# ## What this did not show
# That people prefer the new texts. The better side was "written by us", not "liked by the audience"; real
# preferences come from real readers, whose thumbs KTO can learn from. And what was compared is what can be counted:
# a dull answer and a witty one are a tie here.
