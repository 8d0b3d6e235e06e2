# %% [markdown]
# # Who says that a script is good?
#
# **Goal.** Count what code can count, let a larger model grade what it cannot (where one is configured), and see in
# which industries more data is needed.
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

phase = open_phase("11_judge", RECIPE, PROFILE, RUN, OVERRIDES)
settings = phase.settings
phase.require("kept_adapter")
kept = phase.figures("10_preference_alignment")["kept"]
print(phase.opening(), f"kept stage: {kept}", sep="\n")

# %% [markdown]
# ### Explanation
# How many texts are there of each stage, on the development briefs? (The held-out ones belong to notebook 12.) The
# texts that notebook 07 held to a grammar, `sft+grammar`, stay out: one seed only, and a form that is right by
# construction. Beside what the models wrote freely they would look like a better model, and a judge would be paid for
# them.

# %%
from lekhai_helpers.core.recipe import data_file
from lekhai_helpers.prepare.dataset import load_briefs

briefs = load_briefs(data_file(settings.evaluation.briefs), settings.evaluation.limit)
responses = phase.ledger.responses()
responses = responses[responses["brief_id"].isin([brief.id for brief in briefs])]
responses = responses[responses["stage"] != "sft+grammar"]
responses["stage"].value_counts().to_frame("texts")

# %% [markdown]
# ### Explanation
# First, what needs no judge: is the table valid, does its length fit the film, is the brand named, how much is
# Bengali, is anything repeated, does the last row call to action? Code counts this the same way every day.
# Each number is a share or mean from 0 to 1. Read *valid_table* first: a text without any table repeats no row, so it
# gets 1 for *no_repeated_rows*, which is no merit. *bengali_share* looks only into cells and is 0 without a table;
# notebook 07 leaves such texts out, so the two figures may differ.

# %%
from lekhai_helpers.measure.judge import counted_table

counted = counted_table(responses, briefs)
by_stage = counted.pivot_table(index="criterion", columns="stage", values="score", sort=False)
by_stage.round(2)

# %% [markdown]
# ### Key Concepts
# **LLM-as-a-judge:** a larger model grades the texts of a smaller one. **Rubric:** the marking scheme, with words for
# each mark, so that a 7 means the same twice.
#
# *Interview question:* What is wrong with an LLM judge? *A good answer:* it likes long answers, the first of two, and
# its own family's style. So: count what can be counted, swap the order, audit the judge on pairs with a known better
# side, and give an interval.

# %% [markdown]
# ### Explanation
# The rubric of this recipe, as the judge would read it: three criteria, marks from 1 to 10.

# %%
for name, words in settings.judge.criteria.items():
    print(f"{name}: {words}\n")

# %% [markdown]
# ### Explanation
# Is a judge configured? Any OpenAI-compatible address will do: GPT-4o, Gemini, or a server of your own. The key comes
# from the environment (`LEKHAI_JUDGE_KEY` with `LEKHAI_JUDGE_URL`, or `OPENAI_API_KEY`) and is never written anywhere.

# %%
from lekhai_helpers.measure.judge import configured

judge = configured(settings.judge.model)
print("judge:", settings.judge.model if judge else "none configured, so only what code can count is shown")

# %% [markdown]
# ### Explanation
# The grading, a fixed number of texts of each stage. Each verdict is *scored*, *unparsable* (the judge did not answer
# in the agreed form) or *failed* (no answer came). Only scored ones count, and all three are reported.
# Here each text is graded alone, so there is no order to swap. The audit of the judge is not part of this notebook.

# %%
from lekhai_helpers.measure.judge import grade_all, tally

verdicts = []
if judge:
    some = responses.groupby("stage", sort=False).head(settings.judge.outputs_per_stage)
    verdicts = grade_all(judge, some, settings.judge.criteria, progress=print)
    phase.ledger.add_verdicts(settings.judge.model, verdicts)
print(tally(verdicts) if judge else "nothing was asked, so nothing was scored: 0 of 0")

# %% [markdown]
# ### Explanation
# The heatmap of the kept stage: industries down, criteria across. *n* counts texts, and texts of one brief with
# different seeds are not independent: n=3 can be one brief asked three times. A pale cell says "low here". More data
# is one possible remedy, a hard brief another reason. Read the texts before you buy data.

# %%
from lekhai_helpers.core.plots import heatmap
from lekhai_helpers.measure.judge import heatmap_table

industries = {brief.id: brief.industry for brief in briefs}
graded = phase.ledger.verdicts().query("stage == @kept") if judge else counted.query("stage == @kept")
means, numbers = heatmap_table(graded, industries)
scale = {"low": 1, "high": 10, "label": "score, 1 to 10"} if judge else {"low": 0, "high": 1, "label": "share, 0 to 1"}
heatmap(means, numbers, **scale)

# %% [markdown]
# ### Explanation
# The industries with the lowest mean, as a list of where to look first.

# %%
weakest = means.mean(axis=1).sort_values().head(5)
weakest.round(2).to_frame("mean over criteria")

# %% [markdown]
# ### Explanation
# The check: every text of the kept stage was counted, and every verdict has one of the three states. Then the manifest.

# %%
from lekhai_helpers.core.run_folder import write_json

assert counted.query("stage == @kept")["brief_id"].nunique() == len(briefs)
assert {verdict["status"] for verdict in verdicts} <= {"scored", "unparsable", "failed"}
scored = sum(verdict["status"] == "scored" for verdict in verdicts)
result = {"counted": by_stage.round(4).to_dict(), "weakest": weakest.round(4).to_dict()}
figures = result | {"judge": settings.judge.model if judge else None, "scored": scored, "asked": len(verdicts)}
manifest = phase.finish({"judgement": write_json(phase.folder / "judgement.json", figures)}, figures)

# %% [markdown]
# ## What this did not show
# How far the judge can be trusted on Bengali. Without a configured judge, nothing here measures fluency or ideas.
