# %% [markdown]
# # Can two models become a better one?
#
# **Goal.** Blend a model that is good at Bengali with one that is good at structure, and find out by measuring
# whether the blend is better than no blend at all. "Sutro" (সূত্র) is thread: we tie two threads together.
#
# **Needs** `base` from notebook 01. **Makes** `merged_base`: the winner, which may be "no merge".

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
# We open the run and pick up the base model that notebook 01 left there.

# %%
from lekhai_helpers.core.run_folder import open_phase
from lekhai_helpers.prepare.bases import Base, load_pointer, save_pointer

phase = open_phase("02_sutro_fusion", RECIPE, PROFILE, RUN, OVERRIDES)
settings = phase.settings
base = load_pointer(phase.require("base"))
print(phase.opening(), base.sentence, sep="\n")

# %% [markdown]
# ### Explanation
# Only the settings of this notebook. `t` is the share of the structure donor in the blend: 0 is none of it, 1 is
# nothing else.

# %%
settings.table().filter(regex=r"^(merge|lora)\.", axis=0)

# %% [markdown]
# ### Key Concepts
# **Merging** makes one model out of two without training: each number of the new model is a mixture of the two old
# ones.
# **SLERP** (spherical linear interpolation) walks along the arc between two points of a globe instead of tunnelling
# straight through it, so that the "length" of the weights is kept.
#
# *Interview question:* When can two models be merged? *A good answer:* only when they are built alike, cut text alike,
# count positions alike, and descend from a common ancestor. Otherwise the numbers mean different things.

# %% [markdown]
# ### Explanation
# The plan this project grew from wanted to merge TigerLLM with DeepSeek-R1-Distill-Qwen-7B. Before anyone downloads
# gigabytes, we compare the two builders' sheets (the *configs*), recorded here; for TigerLLM the shapes are those of
# the Gemma 2 it is built on. In the column `verdict`,
# `block` means: do not merge. `warn`: the tool would run, but something must be settled first. `None`: the sheet does
# not say. *Rope base* is how a model counts positions.

# %%
from lekhai_helpers.prepare.merging import blocks, check_mergeable, preflight_table, read_config

plan_pair = settings.merge.pairs["the plan's pair"]
plan_checks = check_mergeable(*(read_config(name, recorded=True) for name in plan_pair))
preflight_table(plan_checks)

# %% [markdown]
# ### Explanation
# In words: these two were never able to be merged. A "Tiger-7B" does not exist either; TigerLLM comes in two sizes,
# and both are built like Gemma, not like Qwen. Each line below alone is enough to stop.

# %%
print(*plan_pair, sep="  ×  ")
print(*blocks(plan_checks), sep="\n")

# %% [markdown]
# ### Explanation
# So what can be merged here? Two children of the same base. Where the recipe names no ready donors, we make them,
# and call them what they are: a **language donor** (the base, trained shortly on Bengali ad prose) and a
# **structure donor** (the base, trained shortly on turning a brief into ordered steps). First, what they read.

# %%
from lekhai_helpers.learn.donors import heldout_perplexity, load_donor_text, make_donor

prose = load_donor_text(settings.merge.language.data)
outlines = load_donor_text(settings.merge.structure.data)
print(prose.train[0], "", outlines.train[0]["prompt"][0]["content"], sep="\n")
print(outlines.train[0]["completion"][0]["content"])

# %% [markdown]
# ### Explanation
# The first donor learns. The line shows how surprised the model is (its *loss*): it should fall.

# %%
from lekhai_helpers.ship.export import save_merged_16bit

merging = settings.merge
language = make_donor(
    merging.language, base.path, prose, settings, phase.folder / "language", save_merged_16bit
)

# %% [markdown]
# ### Explanation
# The second donor learns something else from the same start.

# %%
structure = make_donor(
    merging.structure, base.path, outlines, settings, phase.folder / "structure", save_merged_16bit
)

# %% [markdown]
# ### Explanation
# The same preflight for our own pair. No row may say `block`.

# %%
own_checks = check_mergeable(read_config(language), read_config(structure))
assert not blocks(own_checks), blocks(own_checks)
preflight_table(own_checks)

# %% [markdown]
# ### Explanation
# mergekit, the tool that merges, reads a small text file. This is the one for the first `t`. `tokenizer: source: base`
# says whose dictionary is kept: the language donor's, so that no Bengali piece is lost.

# %%
from pathlib import Path

import yaml

from lekhai_helpers.prepare.merging import run_merge, slerp_config

shown = slerp_config(Path(language), Path(structure), merging.t[0])
shown = shown | {"base_model": "language", "models": [{"model": "language"}, {"model": "structure"}]}
print(yaml.safe_dump(shown, sort_keys=False))

# %% [markdown]
# ### Explanation
# Now the merges, one for every `t`. Afterwards the helper repairs what mergekit leaves out: without its
# `generation_config.json` a merged model may never stop talking. It also proves that the dictionary survived.

# %%
merges = {}
for t in merging.t:
    config = slerp_config(Path(language), Path(structure), t)
    merges[t] = run_merge(config, phase.folder / f"merge_t{t:g}")
    print(f"t = {t:g}: merged, repaired, dictionary unchanged")

# %% [markdown]
# ### Key Concepts
# **Perplexity** says how surprised a model is by a text it has never seen: 1 would be no surprise at all, and lower
# is better. It compares only models that cut text with the same dictionary.
#
# *Interview question:* Why measure on held-out text? *A good answer:* on the text it was trained on, a model that
# learned by heart looks brilliant. Only new text shows what it understood.

# %% [markdown]
# ### Explanation
# Every candidate takes the same two exams: Bengali prose and outlines, none of which any donor has read. "No merge" is
# the base as it was, and it is a candidate like the others.

# %%
import pandas as pd

from lekhai_helpers.learn.model import load_model, release_memory

candidates = {"no merge": base.path, "language donor": language, "structure donor": structure}
candidates |= {f"{t:g}": str(folder) for t, folder in merges.items()}
rows = {}
for name, path in candidates.items():
    model, tokenizer = load_model(path, settings)
    rows[name] = (heldout_perplexity(model, tokenizer, prose), heldout_perplexity(model, tokenizer, outlines))
    del model
    release_memory()

# %% [markdown]
# ### Explanation
# Read each column by itself; lower is better. 150 means: as unsure as when choosing among 150 equally likely tokens.
# At `t` = 0 the blend is the language donor itself and at `t` = 1 the structure donor, so these rows should agree: a
# free test of the merge. Only a `t` in between is a blend. Where the donors were made here, they practised on texts
# like those of the exam and "no merge" did not, so compare a blend with the donors, not only with "no merge".

# %%
table = pd.DataFrame(rows, index=["bengali_perplexity", "outline_perplexity"]).T
table.index.name = "t"
table.round(2)

# %% [markdown]
# ### Explanation
# The same as a picture, from all language (left) to all structure (right). The dashed lines are the candidates that
# are no blend.

# %%
from lekhai_helpers.core.plots import merge_curve

merge_curve(table.rename(index={f"{t:g}": t for t in merges}))

# %% [markdown]
# ### Explanation
# The rule for the winner, written down before looking: the lowest product of both perplexities, so that a candidate
# must be good at both. The donors are candidates too. "No merge" may win, and then the merge is simply not used.

# %%
score = (table["bengali_perplexity"] * table["outline_perplexity"]).sort_values()
winner = score.index[0]
title = {"no merge": base.title}.get(winner, f"{base.title}, {'' if 'donor' in winner else 'merged at t = '}{winner}")
print(f"winner: {winner}; runner-up: {score.index[1]}, {score.iloc[1] / score.iloc[0] - 1:+.1%} in the product")

# %% [markdown]
# ### Explanation
# Does the winner still know where an answer ends? Five outlines are asked for, and we count how many end by
# themselves within the limit. Few is no disaster here: the fine-tuning in notebook 06 teaches it properly.

# %%
from lekhai_helpers.learn.model import generate

model, tokenizer = load_model(candidates[winner], settings)
short = settings.decoding.model_copy(update={"max_new_tokens": min(160, settings.decoding.max_new_tokens)})
answers = generate(model, tokenizer, [row["prompt"] for row in outlines.heldout[:5]], short, settings.seed)
print(f"{sum(answer.stopped for answer in answers)} of {len(answers)} end by themselves", answers[0].text, sep="\n\n")

# %% [markdown]
# ### Explanation
# The winner stays, the other copies are deleted: each is as large as the model itself.

# %%
import shutil

own_folders = [Path(path) for path in candidates.values() if Path(path).is_relative_to(phase.folder)]
for folder in own_folders:
    if str(folder) != candidates[winner]:
        shutil.rmtree(folder)
chosen = Base(candidates[winner], title, base.licence, f"The base of the fine-tuning is: {title}.")

# %% [markdown]
# ### Explanation
# The check: the plan's pair was refused, our own was not, and every candidate was scored. Then the manifest.

# %%
assert blocks(plan_checks) and table.notna().all().all()
merge_table = table.reset_index().round(4).to_dict("records")
figures = {"merge_table": merge_table, "winner": winner, "asked": len(answers)}
figures["stopped"] = sum(answer.stopped for answer in answers)
figures["merge_t"] = float(winner) if winner in {f"{t:g}" for t in merges} else None
manifest = phase.finish({"merged_base": save_pointer(chosen, phase.folder / "merged_base.json")}, figures)
figures

# %% [markdown]
# ## What this did not show
# That the winner writes better ads: perplexity is surprise, not quality. And donors made in a few steps from one base
# differ only a little; the recipe's larger pairs differ more, and may win or lose more clearly. Nor that merging beats
# training one model on both texts, which we did not try. One run, no interval: a lead of a few percent may be luck.
