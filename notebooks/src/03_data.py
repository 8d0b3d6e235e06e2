# %% [markdown]
# # What does the model learn from?
#
# **Goal.** Turn a spreadsheet of ad scripts into examples a model can learn from, and check every one of them before
# any hour is spent on training.
#
# **Needs** `merged_base` from notebook 02 (for its tokenizer). **Makes** `dataset`: training, validation and test rows.

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
# We open the run and pick up the model whose dictionary will cut our texts.

# %%
from lekhai_helpers.core.run_folder import open_phase
from lekhai_helpers.prepare.bases import load_pointer

phase = open_phase("03_data", RECIPE, PROFILE, RUN, OVERRIDES)
settings = phase.settings
base = load_pointer(phase.require("merged_base"))
print(phase.opening())

# %% [markdown]
# ### Explanation
# The spreadsheet. To use your own, put the file into `data/` and set `OVERRIDES = {"data.file": "my file.csv"}`. The
# loader understands what Excel writes, keeps columns it does not know, and drops nothing silently.

# %%
from lekhai_helpers.core.recipe import data_file
from lekhai_helpers.prepare.dataset import load_table, report

data = settings.data
table, problems = load_table(data_file(data.file), data.prompts, data.source, data.contract)
print(f"{len(table)} rows, {table['usable'].sum()} usable, {len(problems)} problems")

# %% [markdown]
# ### Explanation
# Every problem with its row number as the spreadsheet counts it. An empty table is the good case. A row with an error
# stays visible here but is not learned from.

# %%
report(problems)

# %% [markdown]
# ### Explanation
# Stricter checks, the ones our own data has to pass: brands, prompts that name what the script sells, scripts that
# copy each other, spoken words that fit the film. For a file of yours they are advice. The same from the terminal:
# `lekhai data check "my scripts.csv"`.

# %%
from lekhai_helpers.prepare.checks import check_table

report(check_table(table))

# %% [markdown]
# ### Explanation
# One row, read by a person: a short brief, and the script an agency would hand in for it.

# %%
row = table.iloc[0]
print(row["brand"], row["tone"], row["prompt_1"], "", row["script"], sep="\n")

# %% [markdown]
# ### Explanation
# A script is a table of two columns, one row a shot. The **contract** says so in code: it counts the cells of every
# line by itself, because the usual Markdown readers drop a cell too many without a word. The first line is the verdict
# on the good script: `ok`, an empty list of `problems`, and `facts` that were counted. Then we spoil a copy with extra
# cells; the second line lists what the contract finds.

# %%
from lekhai_helpers.prepare.contracts import get_contract

contract = get_contract(settings.data.contract)
print(contract(row["script"]))
print(contract(row["script"].replace("| ", "| extra | ", 3)).problems)

# %% [markdown]
# ### Explanation
# Is the data balanced? A model writes best what it has read most. Rows per industry, rows per tone, and how many words
# the scripts have for films of each length.

# %%
from lekhai_helpers.core.plots import data_overview

data_overview(table)

# %% [markdown]
# ### Explanation
# Now the split. Most rows are for learning (*train*), a few to watch while learning (*validation*), and a few are put
# aside (*test*). These notebooks never open the test rows: they are yours for a last check. The exams here use
# separate briefs without a model answer. We split by row: the prompts of one script stay together, or the model could
# have read the answer to its exam.

# %%
from lekhai_helpers.prepare.dataset import split

table["split"] = split(table, settings.data.validation_share, settings.data.test_share, settings.seed)
table["split"].value_counts()

# %% [markdown]
# ### Key Concepts
# **Train, validation, test:** the textbook, the mock exam, and the real exam.
# **Leakage:** when an exam question was already in the textbook. The result looks splendid and means nothing.
#
# *Interview question:* Each of your rows has three prompts for one script. How do you split? *A good answer:* by row,
# never by prompt, because the answer is the same script; and spread over the industries.

# %% [markdown]
# ### Explanation
# Films longer than `data.max_seconds` are kept out of the examples where the profile says so: a tiny model learns the
# short form first. They stay in the file and in the split.

# %%
longest_film = settings.data.max_seconds or table["duration_seconds"].max()
taught = table[table["duration_seconds"].fillna(0) <= longest_film]
print(f"{len(taught)} of {len(table)} rows have a film of at most {longest_film} seconds")

# %% [markdown]
# ### Explanation
# The chat format: a system message (who the model is), a user message (the brief), and the assistant's answer (the
# script). With all three prompts a row gives three examples; the setting `data.prompts` chooses.

# %%
from lekhai_helpers.prepare.dataset import to_examples

examples = to_examples(taught, settings.data.prompts, settings.system_prompt)
train = [example for example in examples if example["split"] == "train"]
print(f"{len(examples)} examples, {len(train)} of them to learn from")
train[0]

# %% [markdown]
# ### Explanation
# What the model will really see: one long text, put together by the tokenizer's *chat template*. `<bos>` marks the
# beginning and `<eos>` the end. The end mark is the most important word of all: without it a model never stops.

# %%
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(base.path)
print(tokenizer.apply_chat_template(train[0]["prompt"] + train[0]["completion"], tokenize=False))

# %% [markdown]
# ### Explanation
# How long is an example, counted in tokens? We compare this model's dictionary with the untrimmed one, and with no
# dictionary at all: single bytes, the way a model sees a script it hardly knows. The line is the most we accept.

# %%
from lekhai_helpers.core.plots import token_lengths
from lekhai_helpers.prepare.bases import full_paths

texts = [tokenizer.apply_chat_template(e["prompt"] + e["completion"], tokenize=False) for e in examples]
lengths = {"this model": [len(tokenizer(t, add_special_tokens=False).input_ids) for t in texts]}
full = full_paths()[1]
if full.exists():
    untrimmed = AutoTokenizer.from_pretrained(full)
    lengths["full dictionary"] = [len(untrimmed(t, add_special_tokens=False).input_ids) for t in texts]
lengths["single bytes"] = [len(t.encode()) for t in texts]
token_lengths(lengths, settings.model.max_seq_length)

# %% [markdown]
# ### Explanation
# The longest example must fit, or its ending, with the end mark, would be cut off silently.

# %%
longest = max(lengths["this model"])
print(f"longest example: {longest} tokens; limit: {settings.model.max_seq_length}")

# %% [markdown]
# ### Explanation
# The **mask view**. Coloured tokens are learned, grey ones are only read: the model should learn to answer briefs, not
# to write them. Check that the colour begins with the table and ends with the end mark.

# %%
from lekhai_helpers.prepare.masking import check_masks, failures, render_mask, tokenize_example

render_mask(tokenize_example(train[0], tokenizer, settings.model.max_seq_length))

# %% [markdown]
# ### Explanation
# The same check for every example, as numbers: nothing cut, one beginning, one end, something to learn in each.
# *tokens*: length of an example; *learned*: tokens that count; *learned_share*: their share; *truncated*: tokens cut
# off, which must be 0.

# %%
masks = check_masks(examples, tokenizer, settings.model.max_seq_length)
mask_failures = failures(masks)
print("problems:", mask_failures or "none")
masks.describe().round(2).loc[["mean", "min", "max"]]

# %% [markdown]
# ### Key Concepts
# **Loss mask:** which tokens count when the model is marked. **Completion-only loss:** only the answer counts.
#
# *Interview question:* Your fine-tuned model never stops talking. What do you look at first? *A good answer:* whether
# the end token is inside the loss mask, and whether it survived truncation.

# %% [markdown]
# ### Explanation
# Leakage, measured in runs of five characters. Held-out scripts are compared with training scripts, briefs with
# training prompts. *nearest* is the training text that is most alike, *jaccard* the runs both share out of all runs
# of the two, *contained* the share of the held-out text found there. 1 would be a copy. Short briefs share stock
# phrases such as "write an ad of 30 seconds", so a third is no alarm by itself; near 1, read both texts.

# %%
from lekhai_helpers.prepare.dataset import leakage, load_briefs, save

briefs = load_briefs(data_file(settings.evaluation.briefs), part=None)
heldout = [example for example in examples if example["split"] != "train"]
leaks = leakage(train, [*heldout, *briefs])
leaks.sort_values(leaks.columns[-1], ascending=False).head(5)

# %% [markdown]
# ### Explanation
# Everything is written into the run, and the check asserts what must be true of every data set.

# %%
assert not mask_failures, mask_failures
assert longest <= settings.model.max_seq_length, "raise model.max_seq_length"
folder = save(examples, table, phase.folder / "dataset")
figures = {"rows": len(table), "usable": int(table["usable"].sum()), "examples": len(examples)}
figures |= {"train_examples": len(train), "longest_tokens": longest}
manifest = phase.finish({"dataset": folder}, figures)
figures

# %% [markdown]
# ## What this did not show
# Whether the scripts are *good*: code counts cells and words, not ideas. The data card in `data/README.md` says how
# the sample was made and that no native copywriter has reviewed it yet.
