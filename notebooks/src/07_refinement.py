# %% [markdown]
# # Did fine-tuning help?
#
# **Goal.** The same briefs, the same settings, the same seeds as in notebook 05, before and after, side by side, with
# an interval that says how sure we may be.
#
# **Needs** `sft_adapter` from notebook 06 and `baseline` from notebook 05. **Makes** `refinement`: the comparison.

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
# We open the run and pick up the base, the trained strips and the answers from before.

# %%
import json

from lekhai_helpers.core.run_folder import open_phase
from lekhai_helpers.prepare.bases import load_pointer

phase = open_phase("07_refinement", RECIPE, PROFILE, RUN, OVERRIDES)
settings = phase.settings
base, adapter = load_pointer(phase.require("merged_base")), phase.require("sft_adapter")
before = json.loads(phase.require("baseline").read_text())["merged"]
print(phase.opening())

# %% [markdown]
# ### Explanation
# The base with the strips laid on it: this is the fine-tuned model. Where the base is in 16 bits, the strips are added
# into it, which changes nothing in kind and writes faster.

# %%
from lekhai_helpers.learn.model import fold_adapter, load_model

model, tokenizer = load_model(base.path, settings, adapter=adapter)
model = fold_adapter(model)

# %% [markdown]
# ### Explanation
# It answers all the frozen briefs, each once per seed.

# %%
from lekhai_helpers.core.recipe import data_file
from lekhai_helpers.measure.evaluation import model_writer, summarize_stage, write_scripts
from lekhai_helpers.prepare.dataset import load_briefs

briefs = load_briefs(data_file(settings.evaluation.briefs), settings.evaluation.limit)
writer = model_writer(model, tokenizer, settings)
after = write_scripts(writer, briefs, settings, settings.evaluation.seeds)
figures = summarize_stage(phase.ledger, "sft", after)

# %% [markdown]
# ### Explanation
# The Berger brief before fine-tuning, the first 500 characters as the model wrote them.

# %%
import pandas as pd

from lekhai_helpers.prepare.contracts.ad_script import parse_ad_script

pd.set_option("display.max_colwidth", 120)
print("BEFORE", before[0]["text"][:500], sep="\n")

# %% [markdown]
# ### Explanation
# And after. First the verdict, then the rows that could be read, drawn as a table. Only where no row could be read
# does the raw text stand there instead. A table can be drawn and still break the contract: the lines above say how.

# %%
script, problems = parse_ad_script(after[0]["text"])
print("AFTER", *(problems or ["the contract is kept"]), sep="\n")
pd.DataFrame(script.rows, columns=["Visual", "Audio"]) if script.rows else after[0]["text"]

# %% [markdown]
# ### Explanation
# The figures of the new stage: how many texts are valid tables, how many stopped by themselves, how much of the cells
# is Bengali.

# %%
pd.Series(figures).to_frame("sft")

# %% [markdown]
# ### Explanation
# All stages so far in one picture. The thin lines are the intervals: with few texts they are long, and that is honest.
# They treat every text as independent. Texts of one brief are alike, so the truth is less sure than the lines say.

# %%
from lekhai_helpers.core.plots import validity_by_stage

validity_by_stage(phase.ledger.summary())

# %% [markdown]
# ### Explanation
# Before against after, brief by brief. The interval comes from drawing the briefs again and again at random (a
# *bootstrap*). If it does not include 0, chance is a poor explanation.

# %%
from lekhai_helpers.measure.evaluation import paired_difference

difference = paired_difference(before, after, settings.seed)
sure = difference["low"] > 0 or difference["high"] < 0
words = "a clear difference" if sure else "no difference shown"
print(f"{difference['difference']:+.0%} valid tables ({difference['low']:+.0%} to {difference['high']:+.0%}): {words}")

# %% [markdown]
# ### Key Concepts
# **Confidence interval:** the range the true value plausibly lies in. **Paired comparison:** each brief is its own
# control, so easy and hard briefs cancel out.
#
# *Interview question:* 9 of 12 outputs are valid. Is the model 75% good? *A good answer:* that is the estimate; with
# twelve texts the interval runs from below a half to above nine tenths, so I would test more briefs before claiming.

# %% [markdown]
# ### Explanation
# What still goes wrong, counted.

# %%
from lekhai_helpers.measure.evaluation import problem_counts

pd.Series(problem_counts(after), name="texts", dtype="int").sort_values(ascending=False).to_frame()

# %% [markdown]
# ### Explanation
# The worst outputs, to be read by a person: most problems first. Numbers say how often, only reading says why.

# %%
worst = sorted(after, key=lambda row: len(row["problems"]), reverse=True)[:3]
for row in worst:
    print(row["brief_id"], row["problems"][:3] or "no problem", row["text"][:250], "", sep="\n")

# %% [markdown]
# ### Explanation
# The **tone test**. The same briefs are asked for in two tones, and once more in the first tone with other dice. If
# the two tones differ more in vocabulary than the same tone does from itself, the model listens to the tone.

# %%
from lekhai_helpers.measure.evaluation import tone_test

tones = ("হাস্যরস (Humorous)", "আবেগঘন (Emotional)")
tone = tone_test(writer, briefs[: min(6, len(briefs))], tones, settings)
print(f"between tones {tone['between']:.3f}, within one tone {tone['within']:.3f}, from {tone['texts']} texts")

# %% [markdown]
# ### Explanation
# In words. 0.02 is a rule of thumb, not a test of chance: the texts are few and no interval is given. Different words
# are also no proof that the right tone was hit.

# %%
gap = tone["between"] - tone["within"]
heard = "the tone changes the vocabulary" if gap > 0.02 else "no effect of the tone shown"
print(f"difference {gap:+.3f}: {heard}")

# %% [markdown]
# ### Explanation
# The check: every brief and seed has a verdict, and the share in the ledger is the share of these texts. The quality
# itself is reported, not asserted: a result is a result. Then the manifest.

# %%
from lekhai_helpers.core.run_folder import write_json

assert len(after) == len(briefs) * len(settings.evaluation.seeds)
assert abs(figures["valid_tables"] - sum(row["ok"] for row in after) / len(after)) < 1e-3
refinement = write_json(phase.folder / "refinement.json", {"sft": after, "difference": difference, "tone": tone})
manifest = phase.finish({"refinement": refinement}, {"sft": figures, "difference": difference, "tone": tone})

# %% [markdown]
# ## What this did not show
# Whether the ads are any *good*. A valid table can be dull. Notebook 11 looks at that. And
# settings were tried out on development briefs, so this exam is a little kind; notebook 12 has fresh ones.
