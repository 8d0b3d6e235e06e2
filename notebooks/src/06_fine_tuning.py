# %% [markdown]
# # Is it learning, or learning by heart?
#
# **Goal.** Train the model on the examples, watch it learn, and notice when it begins to memorise.
#
# **Needs** `merged_base`, `dataset`, `lora_config`. **Makes** `sft_adapter`: the trained strips.

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
# We open the run and pick up model, data and the LoRA settings of notebook 04.

# %%
import json

from lekhai_helpers.core.recipe import Lora
from lekhai_helpers.core.run_folder import open_phase
from lekhai_helpers.prepare.bases import load_pointer

phase = open_phase("06_fine_tuning", RECIPE, PROFILE, RUN, OVERRIDES)
settings = phase.settings
base = load_pointer(phase.require("merged_base"))
lora = Lora(**json.loads(phase.require("lora_config").read_text()))
print(phase.opening(), base.sentence, sep="\n")

# %% [markdown]
# ### Explanation
# The training settings. *Learning rate*: the size of each correction. *Batch size*: how many examples are looked at
# before one correction. *Steps*: how many corrections are made. *Gradient accumulation*: managing the memory, by
# collecting several small batches into one correction. *Warmup*: the share of steps that begin gently. *Weight decay*:
# a slight pull of all numbers towards zero. *Patience*: after how many looks without progress it stops early; `None`
# means that it makes all its steps.

# %%
settings.table().filter(regex=r"^(sft|lora)\.", axis=0)

# %% [markdown]
# ### Explanation
# Textbook and mock exam, and the longest row that notebook 03 allows. One *epoch* is one reading of the whole textbook.

# %%
from lekhai_helpers.learn.training import effective_batch
from lekhai_helpers.prepare.dataset import load_examples
from lekhai_helpers.prepare.lengths import load_longest, load_max_length

dataset = phase.require("dataset")
train, validation = load_examples(dataset, "train"), load_examples(dataset, "validation")
max_length = load_max_length(dataset)
epochs = settings.sft.max_steps * effective_batch(settings.sft) / len(train)
print(f"{len(train)} training and {len(validation)} validation examples of at most {max_length} tokens")
print(f"{epochs:.1f} epochs")

# %% [markdown]
# ### Explanation
# Will it fit? Before anything is loaded, the memory is worked out from the model's shapes and the longest row. Where it
# would not fit, the cell stops and names one setting to change and what that saves: better now than after an hour.

# %%
from lekhai_helpers.learn.memory import estimate, fit, free_mb, read_config
from lekhai_helpers.learn.model import unsloth_engine

unsloth_engine()
expected = estimate(read_config(base.path), settings, load_longest(dataset))
free = free_mb(settings.model.device)
change = fit(expected, free)
assert change is None, change.sentence
expected.table()

# %% [markdown]
# ### Explanation
# The model, with fresh strips on it. Everything but the strips is frozen.

# %%
from lekhai_helpers.learn.model import attach_lora, device_memory_mb, load_model

model, tokenizer = load_model(base.path, settings)
model = attach_lora(model, lora, settings.seed)

# %% [markdown]
# ### Explanation
# The trial step: one correction on the longest row, measured and then undone. Should it take more than was free, the
# cell stops and names one change. Measured against expected, the fixed allowance left out: far apart would mean that
# the estimate, or the machine, is not what we think.

# %%
from lekhai_helpers.learn.memory import check_probe, compare, probe
from lekhai_helpers.prepare.masking import rendered_ids

longest = max((rendered_ids(row, tokenizer) for row in train + validation), key=len)
measured = probe(model, tokenizer, longest, settings)
check_probe(expected, measured, free)
memory = compare(expected, measured)
print(f"longest row {len(longest)} tokens: measured {memory['measured_mb']:,.0f} MB", end="")
print(f", expected {memory['estimated_mb']:,.0f} MB")

# %% [markdown]
# ### Key Concepts
# **SFT** (supervised fine-tuning): show a prompt and the right answer, and correct the model towards the answer.
# **Loss:** how surprised the model was by the right answer; training makes it smaller. **Overfitting:** the loss on
# the textbook falls while the loss on the mock exam rises. The model learns by heart.
#
# *Interview question:* How do you see overfitting? *A good answer:* the validation loss rises while the training loss
# still falls; a gap alone is normal. Then I look for outputs that repeat training text word for word.

# %% [markdown]
# ### Explanation
# What is a good model? The loss knows the next word, but not the form of the whole answer. Where `sft.keep` is
# `contract`, we also let it answer mock exam questions at every look, count the answers that keep the contract, and
# keep the weights with the most. With `best`, the validation loss decides, and nothing is written on the way.

# %%
from lekhai_helpers.learn.model import generate
from lekhai_helpers.prepare.contracts import expected_of, get_contract

contract, asked = get_contract(settings.data.contract), [row["prompt"] for row in validation[:12]]
held_to = [expected_of(row.get("expected", "")) for row in validation[:12]]
looks = []  # the answers at each look


def valid_answers(model, tokenizer):
    looks.append(generate(model, tokenizer, asked, settings.decoding, settings.seed))
    return sum(contract(answer.text, held).ok for answer, held in zip(looks[-1], held_to, strict=True)) / len(asked)


# %% [markdown]
# ### Explanation
# Training. A checkpoint is written at every look and after some minutes, so that a broken connection costs minutes and
# not the run: run the notebook again from the top and it goes on where it was. (On Colab a checkpoint outlives the
# machine only with `USE_DRIVE`.) In Jupyter the curve is drawn while you watch. With `sft.processes` above 1 the same
# training runs in several processes, one a card.

# %%
from lekhai_helpers.core.notebook import is_interactive
from lekhai_helpers.learn.distributed import train_in_processes
from lekhai_helpers.learn.training import train_sft

rows, place = (train, validation), phase.folder / "checkpoints"
shared = {"max_length": max_length, "ledger": phase.ledger}
shown = {"score": valid_answers if settings.sft.keep == "contract" else None, "live_plot": is_interactive()}
if settings.sft.processes == 1:
    result = train_sft(model, tokenizer, *rows, settings, place, **shown, **shared)

# %% [markdown]
# ### Explanation
# The branch for several cards. The notebook is one process itself, so it gives its card free, starts the others, and
# loads what they trained. On one card or processor this cell does nothing.

# %%
from lekhai_helpers.learn.model import release_memory

if settings.sft.processes > 1:
    del model
    release_memory()
    result, trained = train_in_processes(base.path, lora, *rows, settings, place, **shared)
    model, tokenizer = load_model(base.path, settings, adapter=trained)
print(f"{result.steps} steps in {result.seconds:.0f} s, {result.tokens_per_second:.0f} tokens a second in all")

# %% [markdown]
# ### Explanation
# The curves. Both losses should fall; where the validation line turns upwards, learning by heart begins. The *gradient
# norm* is the size of the corrections: a sudden peak means a row unlike the others. The *learning rate* rises gently
# and then fades. The last two say what it cost, in speed and in memory.

# %%
from lekhai_helpers.core.plots import training_curves

training_curves(phase.ledger.metrics("06_fine_tuning"))

# %% [markdown]
# ### Explanation
# The same in words, and the valid answers at each look, where they were counted. The two need not agree: the loss can
# be lowest where hardly an answer has its form yet. Which weights are kept is the setting `sft.keep`. The answers are
# few, so a difference of one or two is luck; notebook 07 counts again, with more.

# %%
print("WARNING:" if result.overfits else "ok:", result.overfitting)
print(*(f"step {step}: {share:.0%} of {len(asked)} answers valid" for step, share in result.valid_answers), sep="\n")
print(f"kept: step {result.kept_step} of {result.planned}; validation loss minus training loss there: ", end="")
print(f"{result.validation_gap:+.2f}; validation loss before the first step: {result.validation_before:.2f}")

# %% [markdown]
# ### Explanation
# A first look at what it writes now, for mock exam questions it never learned from. One answer to read. (Where the
# weights of the last look were kept, its answers are theirs.)

# %%
answers = looks[-1] if looks and result.kept_step == result.planned else None
answers = answers or generate(model, tokenizer, asked, settings.decoding, settings.seed)
print(validation[0]["prompt"][-1]["content"], answers[0].text, sep="\n\n")

# %% [markdown]
# ### Explanation
# Does it write, or does it copy? We count runs of eight words that stand exactly so in the textbook, and put the same
# figure beside it for answers that people wrote and the model never saw: what anybody repeats who writes such texts.

# %%
from lekhai_helpers.measure import memorising
from lekhai_helpers.prepare.contracts import words_of

words = words_of(settings)
held_out = validation + load_examples(dataset, "test")
texts = [
    {"text": answer.text, "prompt": row["prompt"], "brief_id": row["id"], "seed": number}
    for number, (row, answer) in enumerate(zip(validation[:12], answers, strict=True))
]
copied = memorising.compare(texts, train, held_out, settings)
print(memorising.in_words(*copied, words))
memorising.table(copied)

# %% [markdown]
# ### Explanation
# The longest copied passages, to be read by a person: a stock phrase is no theft, a story is. An empty table: none is
# long enough to list.

# %%
import pandas as pd

learned, kind = memorising.scripts_by_id(train), settings.data.contract
passages = [found for row in texts for found in memorising.copied_passages(row["text"], learned, contract=kind)]
passages = sorted(passages, key=lambda passage: -passage.words)
pd.DataFrame([vars(passage) for passage in passages[:5]], columns=["words", "text", "where"])

# %% [markdown]
# ### Explanation
# Only the strips are saved, a small file; the base model stays what it was.

# %%
from lekhai_helpers.ship.export import save_adapter

adapter = save_adapter(model, tokenizer, phase.folder / "adapter")
size = sum(file.stat().st_size for file in adapter.iterdir()) / 1e6
print(f"the adapter takes {size:.1f} MB")

# %% [markdown]
# ### Key Concepts
# **Rank:** how thin the LoRA strips are. **Target modules:** which layers carry them.
#
# *Interview question:* How do you choose the rank? *A good answer:* by trying. I train a few variants for the same few
# steps and compare validation loss, memory and time. If a higher rank changes nothing, the small one is enough.

# %% [markdown]
# ### Explanation
# That trial, as a table to discuss: ranks 8, 16 and 32, and attention only against all linear layers. It takes some
# minutes, so by default you see the table of one measured run, with the recipe it was of;
# `OVERRIDES = {"sft.compare_lora": True}` makes it anew (this notebook then runs again as a whole). The trained model
# is saved by now and gives its memory free.

# %%
from lekhai_helpers.learn.lora_comparison import compare_lora, note_in_words, note_words, recorded, table

del model
release_memory()
if settings.sft.compare_lora:
    trials = base.path, *rows, settings, settings.sft.max_steps // 2, phase.folder / "trials", valid_answers
    variants, trial_words = compare_lora(*trials, max_length=max_length), words
else:
    variants, note = recorded()
    trial_words = note_words(note)
    print(note_in_words(note))
table(variants)

# %% [markdown]
# ### Explanation
# The same as a picture.

# %%
from lekhai_helpers.core.plots import lora_comparison

lora_comparison(table(variants), trial_words)

# %% [markdown]
# ### Explanation
# The figures for the manifest: what it learned, what it cost, and how far the estimate was from the measured memory.

# %%
figures = {"train_loss": result.train_loss[-1][1], "lowest_validation_loss": min(v for _, v in result.validation_loss)}
figures |= {"kept_step": result.kept_step, "steps": result.steps, "overfitting": result.overfitting}
figures |= {"overfits": result.overfits}
figures |= {"valid_answers": result.valid_answers, "validation_gap": round(result.validation_gap, 4)}
figures |= {"validation_loss_before": round(result.validation_before, 4)}
figures |= {"seconds": result.seconds, "tokens_per_second": result.tokens_per_second, "copied": copied}
figures |= {"memory": memory, "peak_memory_mb": round(device_memory_mb(peak=True))}
pd.Series(figures).drop(["overfitting", "copied", "valid_answers"]).to_frame("value")

# %% [markdown]
# ### Explanation
# The check: it made all its steps or ran out of patience, every loss is a number, and at its best the model foretold
# answers it never saw better than before the first step. Then the manifest.

# %%
import math
import shutil

seen = [loss for _, loss in result.validation_loss]
assert result.steps == settings.sft.max_steps or result.out_of_patience, "it ended before its last step"
assert all(math.isfinite(loss) for loss in seen + [loss for _, loss in result.train_loss])
assert min(seen) < result.validation_before, "nothing was learned that helps with answers it never saw"
for leftover in phase.folder.glob("checkpoints*"):
    shutil.rmtree(leftover)
manifest = phase.finish({"sft_adapter": adapter}, figures)

# %% [markdown]
# ## What this did not show
# Whether the answers are sound and better than before: one answer is a vibe. Notebook 07 counts. Nor whether it copies
# ideas: runs of words are counted, and a story told in other words is not found.
