# %% [markdown]
# # What can it write before training?
#
# **Goal.** Ask the model, before any fine-tuning, the very questions we will ask it later, with the same settings, and
# write the answers down. Without a *before*, no *after* means anything.
#
# **Needs** `merged_base` from notebook 02. **Makes** `baseline`: answers and their verdicts.

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
# We open the run and pick up base and merge.

# %%
from lekhai_helpers.core.run_folder import open_phase
from lekhai_helpers.prepare.bases import load_pointer

phase = open_phase("05_vibe_check", RECIPE, PROFILE, RUN, OVERRIDES)
settings = phase.settings
base, merged = load_pointer(phase.require("base")), load_pointer(phase.require("merged_base"))
print(phase.opening(), merged.sentence, sep="\n")

# %% [markdown]
# ### Explanation
# How text is drawn. *Temperature* is the courage to choose a less likely word; at 0 the model always takes the
# likeliest. *top_p* leaves out the unlikely tail, a *repetition penalty* above 1 punishes words used before (harmful
# where a form must repeat its marks, as a table its strokes).
# These settings stay the same for every stage of the chain, or the stages could not be compared.

# %%
settings.table().filter(regex=r"^(decoding|evaluation)\.", axis=0)

# %% [markdown]
# ### Explanation
# We load the model. From here on it only writes.

# %%
from lekhai_helpers.learn.model import generate, load_model

model, tokenizer = load_model(merged.path, settings)

# %% [markdown]
# ### Explanation
# The function everything else uses: a brief goes in, an answer comes out. The *seed* fixes the dice, so that the same
# call gives the same text tomorrow. Texts written together share the dice, so a brief asked alone and in a group can
# get two texts.

# %%
from lekhai_helpers.measure.evaluation import brief_messages


def write_answer(brief, seed: int = 1) -> str:
    """Return the model's answer to one brief."""
    return generate(model, tokenizer, [brief_messages(brief, settings)], settings.decoding, seed)[0].text


# %% [markdown]
# ### Explanation
# The first brief. Read the answer before you read on.

# %%
from lekhai_helpers.prepare.dataset import briefs_of

briefs = briefs_of(settings)
first = write_answer(briefs[0])
print(briefs[0].prompt, "", first[:600], sep="\n")

# %% [markdown]
# ### Explanation
# Perhaps even on the subject, but is it what was asked for? The contract decides by counting, not by taste. Its rule
# stands first.

# %%
from lekhai_helpers.prepare.contracts import expected_of, get_contract

contract = get_contract(settings.data.contract)
verdict = contract(first, expected_of(briefs[0].expected))
print(contract.rule, "kept the contract:", verdict.ok, *verdict.problems, sep="\n")

# %% [markdown]
# ### Key Concepts
# **Baseline:** the result before you did anything. **Vibe check:** reading a few outputs. It finds the surprises that
# numbers miss, and proves nothing: it needs the numbers too.
#
# *Interview question:* Your fine-tuned model writes good answers. How do you know training did it? *A good answer:*
# the same prompts, settings and seeds were run before, and the difference is larger than chance.

# %% [markdown]
# ### Explanation
# All evaluation briefs. None of them is in the training data, and they are frozen: every stage gets the same ones.

# %%
from lekhai_helpers.measure.evaluation import model_writer, shown_figures, summarize_stage, write_scripts

writer = model_writer(model, tokenizer, settings)
rows = write_scripts(writer, briefs, settings, settings.evaluation.baseline_seeds)

# %% [markdown]
# ### Explanation
# The verdicts go into the **ledger**, the one database of all stages. How to read it: *texts* is how many were
# written; then comes the share that kept the contract, under the recipe's own words for it, and *_low* and *_high* are
# the ends of its 95% interval; *stopped* is the share that ended by itself; *mean_tokens* is the mean length. Other
# shares are what the contract counts besides, where some text has anything to count.

# %%
from lekhai_helpers.prepare.contracts import words_of

figures, words = summarize_stage(phase.ledger, "merged", rows), words_of(settings)
shown_figures(figures, words)

# %% [markdown]
# ### Explanation
# The same by group: what a group is, the recipe says, for instance a kind of request or a subject. A model may do well
# at one kind and fail at another, and the mean of both tells neither. Read the intervals in brackets: a group has few
# texts.

# %%
from lekhai_helpers.measure.by_group import by_group

print(f"{words.many}, by {words.group}")
by_group({"before training": rows})

# %% [markdown]
# ### Explanation
# What is wrong with them, counted.

# %%
import pandas as pd

from lekhai_helpers.measure.evaluation import problem_counts

pd.Series(problem_counts(rows), name="texts", dtype="int").sort_values(ascending=False).to_frame()

# %% [markdown]
# ### Explanation
# Some questions have **one right answer**: a label, a tool call. Where the recipe has such, they are asked here without
# dice, all of them, also those put aside for the last exam: nothing is trained or chosen by them, so they stay
# unseen. Notebook 07 asks the tuned model the same.

# %%
from functools import partial

from lekhai_helpers.measure.right_answers import accuracy, answer_right, record_right, right_briefs

asked = right_briefs(settings)
right = answer_right(partial(model_writer, model, tokenizer), asked, settings)
record_right(phase.ledger, "merged", right, asked, settings)
print(accuracy("before training", right, asked, settings).sentence if right else "no such question in this recipe")

# %% [markdown]
# ### Explanation
# The original base, without any merge, takes the same exam, at most twice: it is here to be seen, and the comparisons
# to come use the model above. If "no merge" won in notebook 02, both are the same model.

# %%
from lekhai_helpers.learn.model import release_memory

del model, writer
release_memory()
model, tokenizer = load_model(base.path, settings)
writer = model_writer(model, tokenizer, settings)
base_rows = write_scripts(writer, briefs, settings, settings.evaluation.baseline_seeds[:2])
base_figures = summarize_stage(phase.ledger, "base", base_rows)

# %% [markdown]
# ### Explanation
# The first twelve texts with their verdicts, 80 characters of each.

# %%
shown = pd.DataFrame(rows)[["brief_id", "seed", "ok", "stopped", "tokens", "text"]]
shown["text"] = shown["text"].str.slice(0, 80)
shown.head(12)

# %% [markdown]
# ### Explanation
# The check: every brief was answered once per seed and every answer has a verdict. Then the manifest.

# %%
from lekhai_helpers.core.run_folder import write_json

assert len(rows) == len(briefs) * len(settings.evaluation.baseline_seeds)
baseline = write_json(phase.folder / "baseline.json", {"merged": rows, "base": base_rows, "right": right})
manifest = phase.finish({"baseline": baseline}, {"merged": figures, "base": base_figures})

# %% [markdown]
# ## What this did not show
# That the base is bad. It continues text; it was not yet taught to answer a brief in this form.
