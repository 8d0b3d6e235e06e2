# %% [markdown]
# # Can it learn to prefer the better script?
#
# **Goal.** So far the model imitated. Now it gets pairs, a better and a worse script for the same brief, and learns to
# lean towards the better one. Then we decide by a rule whether to keep the result.
#
# **Needs** `sft_adapter`, `merged_base`, `dataset`. **Makes** `kept_adapter` and `kept_model`: DPO's, or the old ones.

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
# We open the run. The model begins as the fine-tuned one of notebook 06.

# %%
from lekhai_helpers.core.run_folder import open_phase
from lekhai_helpers.learn.model import load_model
from lekhai_helpers.prepare.bases import load_pointer

phase = open_phase("10_preference_alignment", RECIPE, PROFILE, RUN, OVERRIDES)
settings = phase.settings
base, adapter = load_pointer(phase.require("merged_base")), phase.require("sft_adapter")
model, tokenizer = load_model(base.path, settings, adapter=adapter)
print(phase.opening())

# %% [markdown]
# ### Key Concepts
# **DPO** (direct preference optimization, Rafailov et al. 2023): make the better answer more likely and the worse one
# less likely, compared with a frozen copy of the model (the *reference*), so that it does not run away.
# **Policy:** the model being trained. **Margin:** how much more the policy prefers the better side than the reference.
#
# *Interview question:* Why not take random bad text as the worse side? *A good answer:* the model can already tell
# that apart; it reaches full accuracy at once and learns nothing. The worse side must be nearly good.

# %% [markdown]
# ### Explanation
# The pairs. The better side is always a script from the training rows. The worse side is mostly what the model itself
# writes for the same brief today, cut to a similar length; a few are the good script with one planted defect.

# %%
from lekhai_helpers.learn.preference import check_pairs, make_pairs
from lekhai_helpers.prepare.dataset import load_examples

pairs = make_pairs(model, tokenizer, load_examples(phase.require("dataset"), "train"), settings)

# %% [markdown]
# ### Explanation
# One pair, read by a person. Where did the worse side come from, and what makes it worse?

# %%
pair = pairs[0]
print(f"THE WORSE SIDE IS {pair.source}\n\nBETTER\n{pair.chosen[:400]}\n\nWORSE\n{pair.rejected[:400]}")

# %% [markdown]
# ### Explanation
# Both sides must fit whole; the cell stops where one does not. Compare *mean_chosen_tokens* with
# *mean_rejected_tokens* yourself: if they lie far apart, the model may learn "longer is better" or "shorter is
# better". *longest* is the longest side in tokens; the table counts where the worse sides came from.

# %%
import pandas as pd

lengths = check_pairs(pairs, tokenizer, settings.model.max_seq_length)
sources = pd.Series([pair.source for pair in pairs]).value_counts()
print(lengths)
sources.to_frame("pairs")

# %% [markdown]
# ### Explanation
# The alignment. *Beta* says how firmly the policy is held to the reference, *sft_weight* how much plain imitation stays
# in. Watch *margin* and *accuracy*: both should rise slowly. A jump to the top at once means the pairs were too easy.

# %%
from lekhai_helpers.learn.preference import train_dpo

settings.table().filter(regex=r"^dpo\.", axis=0).pipe(print)
log = train_dpo(model, tokenizer, pairs, settings, phase.folder / "dpo", phase.ledger)

# %% [markdown]
# ### Explanation
# The curves: how the policy's liking for the better and the worse side moved away from the reference.

# %%
from lekhai_helpers.core.plots import reward_curves

reward_curves(phase.ledger.metrics("10_preference_alignment"))

# %% [markdown]
# ### Explanation
# Alarms: known signs of a training that went wrong, each said in words. None is the good case.

# %%
from lekhai_helpers.learn.preference import alarms

warnings = alarms(log)
print(*(warnings or ["no alarm"]), sep="\n")

# %% [markdown]
# ### Explanation
# The new strips are saved, once alone and once added into the base, and the briefs are read again.

# %%
from lekhai_helpers.core.recipe import data_file
from lekhai_helpers.measure.evaluation import model_writer, summarize_stage, write_scripts
from lekhai_helpers.prepare.dataset import load_briefs
from lekhai_helpers.ship.export import save_adapter, save_merged_16bit

new_adapter = save_adapter(model, tokenizer, phase.folder / "adapter")
new_model = save_merged_16bit(model, tokenizer, phase.folder / "merged")
briefs = load_briefs(data_file(settings.evaluation.briefs), settings.evaluation.limit)

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
# Before and after DPO, on the same briefs. The figures of the fine-tuned model are read back from its notebook.

# %%
phase.require("refinement")
before = phase.figures("07_refinement")["sft"]
pd.DataFrame({"sft": before, "dpo": after}).round(3)

# %% [markdown]
# ### Explanation
# The verdict, by a rule written before: keep DPO only if no fewer tables are valid, at most 5 texts in 100 fewer stop
# by themselves, and the length did not drift by more than 15%. Otherwise the fine-tuned model goes on. KEEP means "no
# harm found on these briefs", not "people like it better", and a difference of a few texts may be chance. Both endings
# are fine.

# %%
from lekhai_helpers.learn.preference import verdict

keep, reasons = verdict(before, after)
print("KEEP" if keep else "DROP", *reasons, sep="\n")

# %% [markdown]
# ### Explanation
# The winner goes on to notebook 12. If DPO is dropped, the fine-tuned model is passed on unchanged.

# %%
from lekhai_helpers.prepare.bases import Base, save_pointer

exported = phase.require("exported_model")
old = exported / "adapter", exported / "merged"
kept_adapter, kept_model = (new_adapter, new_model) if keep else old

# %% [markdown]
# ### Explanation
# The check and the manifest. The names say which stage was kept, so that nobody has to guess later.

# %%
kept = "dpo" if keep else "sft"
title = f"{settings.title}, kept stage: {kept}"
outputs = {}
for name, place in (("kept_adapter", kept_adapter), ("kept_model", kept_model)):
    outputs[name] = save_pointer(Base(str(place), title, base.licence, title), phase.folder / f"{name}.json")
assert len(log) == settings.dpo.max_steps and len(rows) == len(briefs) * len(settings.evaluation.seeds)
figures = {"verdict": "keep" if keep else "drop", "kept": kept, "reasons": reasons, "alarms": warnings, "dpo": after}
manifest = phase.finish(outputs, figures | {"pairs": lengths})

# %% [markdown]
# ## What this did not show
# That people prefer the new scripts. The better side was "written by us", not "liked by the audience"; real
# preferences come from real readers.
