# %% [markdown]
# # What does the model learn from?
#
# **Goal.** Turn a file of requests and good answers into examples a model can learn from, and check every one of them
# before any hour is spent on training.
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
# We open the run and pick up the model whose dictionary will cut our texts. What is written, and what a sound one is
# called, differ from recipe to recipe: the last line says it for this one.

# %%
from lekhai_helpers.core.run_folder import open_phase
from lekhai_helpers.prepare.bases import load_pointer
from lekhai_helpers.prepare.contracts import words_of

phase = open_phase("03_data", RECIPE, PROFILE, RUN, OVERRIDES)
settings = phase.settings
base = load_pointer(phase.require("merged_base"))
words = words_of(settings)
print(phase.opening(), f"it learns to write: {words.units}; a sound one is {words.one}", sep="\n")

# %% [markdown]
# ### Explanation
# The file of examples. To use your own, put it into `data/` and set `OVERRIDES = {"data.file": "my file.csv"}`; a data
# set's name on the Hugging Face hub, `owner/name`, is downloaded. Every recipe has a reader for its kind of file
# (`data.source`); all keep columns they do not know, and drop nothing silently.

# %%
from lekhai_helpers.prepare.dataset import load_table, report
from lekhai_helpers.prepare.hub_data import examples_path

data, file = settings.data, examples_path(settings.data)
table, problems = load_table(file, data.prompts, data.source, data.contract)
print(f"{len(table)} rows, {table['usable'].sum()} usable, {len(problems)} problems")

# %% [markdown]
# ### Explanation
# Every problem with its row number as a spreadsheet counts it. An empty table is the good case. A row with an error
# stays visible here but is not learned from.

# %%
report(problems)

# %% [markdown]
# ### Explanation
# What became no row at all, file by file and by reason, with one example each: a text that nearly repeats another, or
# one that is too short to learn from. A repeated text is learned twice as hard as its neighbours, and where one copy
# lands in the exam, the exam is spoilt. An empty table means that the reader took everything.

# %%
from lekhai_helpers.prepare.data_figures import left_out_counts
from lekhai_helpers.prepare.sources.reading import read_source

left_out_counts(read_source(data.source)(file).left_out)

# %% [markdown]
# ### Explanation
# Stricter checks: rows that copy each other, and what the recipe's own data has to pass beyond that. For a file of
# yours they are advice. The same from the terminal, for a spreadsheet: `lekhai data check "my file.csv"`. (*5-grams*
# are runs of five letters; a warning leaves the row in.)

# %%
from lekhai_helpers.prepare.checks import strict_checks

report(strict_checks(table, data.contract))

# %% [markdown]
# ### Explanation
# One row, read by a person: what was asked, and the answer we would have liked to get.

# %%
row = table.iloc[0]
print(*filter(None, (row["brand"], row["tone"], row["prompt_1"], "\n", row["script"])), sep="\n")

# %% [markdown]
# ### Explanation
# What must every answer be? The **contract** says so in code, because code counts the same way every day and never
# looks away. First its rule in words, then the verdict on the good answer: `ok`, an empty list of `problems`, and
# `facts` that were counted.

# %%
from lekhai_helpers.prepare.contracts import expected_of, get_contract

contract, expected = get_contract(data.contract), expected_of(row.get("expected", ""))
print(contract.rule, contract(row["script"], expected), sep="\n")

# %% [markdown]
# ### Explanation
# Does the contract see anything at all? We spoil copies of the answer on purpose, in every way it knows for this one,
# and let it look. A way that finds nothing is a fault of sense, not of form: notebook 10 learns from those too. Faults
# of another kind of answer have nothing to bite on here.

# %%
for name, spoil in contract.defects.items():
    spoilt = spoil(row["script"])
    found = contract(spoilt[0], expected).problems if spoilt else ["nothing in this text to spoil so"]
    print(f"{name}: {'; '.join(found) or 'the form is kept'}")

# %% [markdown]
# ### Explanation
# What the contract counts, over all good answers: this is what the model will take as normal. *answers* is how many
# have such a thing to count; a yes or no counts as 1 or 0, so its *mean* is a share. Where English explanations are
# among them, *reading_ease* is Flesch's figure (60 and more is plain English, 90 is read by children) and *grade* the
# school year that can read them.

# %%
from lekhai_helpers.prepare.data_figures import counted_facts

counted_facts(table, data.contract).round(2)

# %% [markdown]
# ### Explanation
# Which kinds of harm are the requests about? Where a recipe is about safety, its rows are sorted for a first look by
# words alone, and we ask first how far such a guess can be trusted: on prompts that a person labelled. *precision*: of
# those it called so, how many were so; *recall*: of those that were so, how many it found; *low* and *high* are the
# ends of the 95% interval. A word knows topics, not wishes: figures of speech, news and fiction ring, a polite threat
# does not. The lower these figures, the less any count by category says; the guess never decides about a row.

# %%
from lekhai_helpers.core.recipe import data_file
from lekhai_helpers.prepare.safety_categories import load_labelled, measure

trust = measure(load_labelled(data_file(data.labelled))) if data.labelled else None
print("labelled prompts:", data.labelled or "none in this recipe, so nothing is guessed by words")
trust if trust is None else trust.set_index("category").round(2)

# %% [markdown]
# ### Explanation
# Is the data balanced? A model writes best what it has read most. Rows by group, rows by tone where tones are named,
# and how long the texts are.

# %%
from lekhai_helpers.core.plots import data_overview

data_overview(table, words)

# %% [markdown]
# ### Explanation
# Now the split. Most rows are for learning (*train*), a few to watch while learning (*validation*), and a few are put
# aside (*test*). No model here is trained or chosen by the test rows: they are yours for a last check; notebook 06
# only counts words in them. The exams here use separate briefs without a model answer. We split by row: several prompts
# for one answer, or the turns of one conversation, stay together, or the model could have read the answer to its exam.

# %%
from lekhai_helpers.prepare.data_figures import split_shares
from lekhai_helpers.prepare.dataset import split

table["split"] = split(table, data.validation_share, data.test_share, settings.seed)
print(f"asked for: {data.validation_share:.1%} and {data.test_share:.1%} held out; seed {settings.seed}")
split_shares(table).round(3)

# %% [markdown]
# ### Key Concepts
# **Train, validation, test:** the textbook, the mock exam, and the real exam.
# **Leakage:** when an exam question was already in the textbook. The result looks splendid and means nothing.
#
# *Interview question:* Each of your rows has three prompts for one answer. How do you split? *A good answer:* by row,
# never by prompt, because the answer is the same text; and spread over the groups, so that none is only in the exam.

# %% [markdown]
# ### Explanation
# Where rows say how long the thing lasts that they describe, a tiny model learns the short ones first: longer ones than
# `data.max_seconds` are kept out of the examples. They stay in the file and in the split.

# %%
lasts, longest_taught = table["duration_seconds"].fillna(0), data.max_seconds
taught = table[lasts <= longest_taught] if longest_taught else table
print(f"{len(taught)} of {len(table)} rows are taught; limit in seconds: {longest_taught or 'none'}")

# %% [markdown]
# ### Explanation
# The chat format: a system message (who the model is), a user message (what is asked), and the assistant's answer. A
# row that is a whole conversation keeps its turns. Where a row asks in several ways, each gives an example; the setting
# `data.prompts` chooses.

# %%
from lekhai_helpers.prepare.dataset import to_examples

examples = to_examples(taught, data.prompts, settings.system_prompt)
train = [example for example in examples if example["split"] == "train"]
print(f"{len(examples)} examples, {len(train)} of them to learn from")
train[0]

# %% [markdown]
# ### Explanation
# What the model will really see: one long text, put together by the tokenizer's *chat template*. `<bos>` marks the
# beginning and `<eos>` the end. The end mark is the most important word of all: without it a model never stops.
# `load_tokenizer` also mends a template that knows no system message, as Gemma 2's does: there the system text goes
# into the first user message.

# %%
from lekhai_helpers.learn.model import load_tokenizer

tokenizer = load_tokenizer(base.path)
print(tokenizer.apply_chat_template(train[0]["prompt"] + train[0]["completion"], tokenize=False))

# %% [markdown]
# ### Explanation
# How long is an example, counted in tokens? We compare this model's dictionary with the untrimmed one, and with no
# dictionary at all: single bytes, the way a model sees writing it hardly knows. The line is the most we accept.

# %%
from lekhai_helpers.core.plots import token_lengths
from lekhai_helpers.prepare.bases import full_paths
from lekhai_helpers.prepare.lengths import measure_lengths

measured = measure_lengths(examples, tokenizer)
lengths = {"this model": list(measured.values())}
texts = [tokenizer.apply_chat_template(e["prompt"] + e["completion"], tokenize=False) for e in examples]
if full_paths()[1].exists():
    untrimmed = load_tokenizer(full_paths()[1])
    lengths["full dictionary"] = [len(untrimmed(t, add_special_tokens=False).input_ids) for t in texts]
lengths["single bytes"] = [len(text.encode()) for text in texts]
token_lengths(lengths, settings.model.max_seq_length)

# %% [markdown]
# ### Explanation
# How long may a row of the training be? The trainer cuts what is longer, silently, and a cut answer has lost its end
# mark. The longest row also sets the memory of the whole training, so one odd row should not decide for all. The
# table shows what each choice would cost: the *percentile* of the rows that fit, the length rounded up to a multiple
# of 64, how many rows would be cut, and how many tokens would be lost. Test rows do not count: nothing is trained on
# them.

# %%
from lekhai_helpers.prepare.lengths import choose_max_length, cut_table, leave_out

cap = settings.model.max_seq_length
learnt = [example for example in examples if example["split"] != "test"]
learnt_lengths = measure_lengths(learnt, tokenizer)
cut_table(learnt_lengths.values(), cap)

# %% [markdown]
# ### Explanation
# We take the 99th percentile, never above `model.max_seq_length`. A row that is longer is not cut but left out of the
# training, and named here: a whole answer or none.

# %%
max_length = choose_max_length(learnt_lengths.values(), cap)
examples, left_out = leave_out(examples, learnt_lengths, max_length)
train = [example for example in examples if example["split"] == "train"]
longest = max(length for length in learnt_lengths.values() if length <= max_length)
print(f"longest row: {longest} tokens; chosen length: {max_length}; the most we accept: {cap}")
print("left out of the training:", ", ".join(left_out) or "no row")

# %% [markdown]
# ### Key Concepts
# **Truncation:** cutting what is too long. **Padding:** filling what is short, so that rows of unequal length fit into
# one block. **Packing:** putting several short rows into one block instead; it saves time, but is right only where
# attention keeps the rows apart, so that no text reads its neighbour. Notebook 06 packs only where a measurement on
# the model itself shows that.
#
# *Interview question:* How do you choose the maximal length? *A good answer:* from the measured lengths, at a high
# percentile; I look at what it would cut, and leave those rows out, because a cut row teaches the model not to stop.

# %% [markdown]
# ### Explanation
# The **mask view**. Coloured tokens are learned, grey ones are only read: the model should learn to answer, not to
# ask. Check that the colour begins with the answer and ends with the end mark.

# %%
from lekhai_helpers.prepare.masking import check_masks, failures, render_mask, tokenize_example

render_mask(tokenize_example(train[0], tokenizer, max_length))

# %% [markdown]
# ### Explanation
# The same check for every example the training will see: nothing cut, one beginning, one end, something to learn in
# each. *tokens*: length of an example; *learned*: tokens that count; *learned_share*: their share; *truncated*: tokens
# cut off. The counts below it are rows with a fault. Each fault stops the notebook, for training would run on with it
# and say nothing.

# %%
learnt = [example for example in examples if example["split"] != "test"]
masks = check_masks(learnt, tokenizer, max_length)
mask_failures = failures(masks)
print("problems:", mask_failures or "none")
print((masks[["truncated", "double_bos", "double_eos"]] > 0).sum().to_dict(), "nothing:", (masks.learned == 0).sum())
masks.describe().round(2).loc[["mean", "min", "max"]]

# %% [markdown]
# ### Explanation
# Does the check see anything at all? We spoil one example in three ways and let it look: text that already went through
# the template once, an answer that brings its own end mark, and a length that is too short. This is what the trainer
# would have taken without a word.

# %%
sound = train[0]
rendered = tokenizer.apply_chat_template(sound["prompt"], tokenize=False)
answer = sound["completion"][0]["content"]
twice = sound | {"prompt": [{"role": "user", "content": rendered}]}
two_ends = sound | {"completion": [{"role": "assistant", "content": answer + tokenizer.eos_token}]}
spoilt = [check_masks([twice], tokenizer, 10**6), check_masks([two_ends], tokenizer, 10**6)]
spoilt.append(check_masks([sound], tokenizer, len(tokenizer(answer).input_ids)))
for found in spoilt:
    print(failures(found))

# %% [markdown]
# ### Key Concepts
# **Loss mask:** which tokens count when the model is marked. **Completion-only loss:** only the answer counts.
#
# *Interview question:* Your fine-tuned model never stops talking. What do you look at first? *A good answer:* whether
# the end token is inside the loss mask, and whether it survived truncation.

# %% [markdown]
# ### Explanation
# Leakage, measured in runs of five characters. Held-out answers are compared with training answers (with what was
# asked, where two rows may rightly have one answer), briefs with training prompts. *nearest* is the training text that
# is most alike, *jaccard* the runs both share out of all runs of the two, *contained* the share of the held-out text
# found there. 1 would be a copy. Short briefs share stock phrases ("please explain", "write in 30 seconds"), so a third
# is no alarm by itself; near 1, read both texts.

# %%
from lekhai_helpers.prepare.dataset import briefs_of, save
from lekhai_helpers.prepare.leakage import leakage
from lekhai_helpers.prepare.sources.base import one_row_a_script

briefs = briefs_of(settings, part=None)
heldout = [example for example in examples if example["split"] != "train"]
leaks = leakage(train, [*heldout, *briefs], one_row_a_script(data.source))
leaks.sort_values(leaks.columns[-1], ascending=False).head(5)

# %% [markdown]
# ### Explanation
# Everything is written into the run, the chosen length and the longest row with it, and the check asserts what must be
# true of every data set: sound masks, no held-out text that is nearly a training text, and few rows left out.

# %%
from lekhai_helpers.prepare.lengths import save_max_length

assert not mask_failures, mask_failures
assert leaks["jaccard"].max() < 0.8, "a held-out text is nearly a training text: read the first rows above"
assert len(left_out) <= 0.05 * len(learnt_lengths), "too many rows are too long: raise model.max_seq_length"
folder = save(examples, table, phase.folder / "dataset")
save_max_length(folder, max_length, longest, left_out)
figures = {"rows": len(table), "usable": int(table["usable"].sum()), "examples": len(examples)}
figures |= {"train_examples": len(train), "longest_tokens": longest, "max_length": max_length}
figures

# %% [markdown]
# ### Explanation
# The same examples for other programs, in the two forms most of them read: `messages`, one conversation a line, and
# `text`, the conversation as this model's template writes it, marks and all. Then the manifest.

# %%
from lekhai_helpers.prepare.chat_jsonl import write_chat_jsonl

for path in write_chat_jsonl(examples, folder / "chat", tokenizer):
    lines = path.read_text(encoding="utf-8").count("\n")
    print(f"{path.relative_to(phase.folder)}: {lines} lines")
manifest = phase.finish({"dataset": folder}, figures | {"left_out": left_out})

# %% [markdown]
# ## What this did not show
# Whether the answers are *good*: code counts form and words, not ideas. The data card beside the file says how the
# sample was made, and who has not reviewed it yet.
