# %% [markdown]
# # How does a large model fit into a small memory?
#
# **Goal.** Load the model the normal way and in 4-bit, weigh both, and attach the small part that will be trained.
#
# **Needs** `merged_base` from notebook 02 and `dataset` from notebook 03. **Makes** `lora_config`: what is trained.

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
# We open the run and pick up the model that won in notebook 02.

# %%
from lekhai_helpers.core.run_folder import open_phase
from lekhai_helpers.prepare.bases import load_pointer

phase = open_phase("04_base_model", RECIPE, PROFILE, RUN, OVERRIDES)
settings = phase.settings
base = load_pointer(phase.require("merged_base"))
print(phase.opening(), base.sentence, sep="\n")

# %% [markdown]
# ### Explanation
# Before anything is loaded: will the training fit? A model's `config.json` gives its shapes, and from the shapes
# follows the memory, as the weight of a house follows from its plans. The estimate is for the longest row of notebook
# 03 at the full batch. A large model does not fail politely: the program is gone, and the hour with it.

# %%
from lekhai_helpers.learn import memory
from lekhai_helpers.learn.model import unsloth_engine
from lekhai_helpers.prepare.lengths import load_longest

unsloth_engine()
config = memory.read_config(base.path)
estimated = memory.estimate(config, settings, load_longest(phase.require("dataset")))
estimated.table()

# %% [markdown]
# ### Explanation
# Held against what is free here. The estimate is good to about a quarter, no better, so 15% are kept in reserve, and
# even then the answer is "it should fit", not "it fits": notebook 06 measures. If it is too much, one change is named,
# with what it saves: the one that gives up least. A smaller batch with more accumulation costs only time; shorter rows
# cost examples; 4-bit weights cost some accuracy.

# %%
free = memory.free_mb(settings.model.device)
change = memory.fit(estimated, free)
print(f"needed: about {estimated.total:.0f} MB; free: {free:.0f} MB")
print(change.sentence if change else "It should fit.")

# %% [markdown]
# ### Key Concepts
# **Activations:** what each layer computed on the way forward, kept because the way back needs it. They grow with batch
# size times row length (counted as Korthikanti et al. 2022 do). **Gradient checkpointing:** keeping only each layer's
# input and computing the rest again on the way back: less memory, more time. **Optimiser state:** Adam's two running
# averages for every trained number.
#
# *Interview question:* Your training runs out of memory. What do you change first? *A good answer:* the batch size, and
# the accumulation up by the same factor: the arithmetic of a step stays the same. Only then row length, 4-bit weights,
# or the rank; and I look which part is the largest before I choose.

# %% [markdown]
# ### Explanation
# First the normal way: every number of the model takes 16 bits. We weigh the numbers themselves, and note the memory of
# this whole program before. Where the 16-bit model would not fit (we leave a fifth for its work), it is not loaded:
# its weight is then the one computed from the shapes.

# %%
from lekhai_helpers.learn.model import device_memory_mb, load_model, release_memory, weights_mb

needed = memory.weights_from_shapes(config, four_bit=False)
roomy = needed * 1.2 < free
before = device_memory_mb()
if roomy:
    model, tokenizer = load_model(base.path, settings, four_bit=False)
sixteen = {"weights_mb": weights_mb(model) if roomy else needed}

# %% [markdown]
# ### Explanation
# We let it read some of our answers, to compare with the 4-bit copy afterwards: how surprised is it? And only after it
# has worked do we weigh the program again, because a model is drawn into memory page by page as it is used. What was
# not loaded says so, with what it would have needed.

# %%
from lekhai_helpers.learn.model import perplexity
from lekhai_helpers.prepare.dataset import load_examples

answers = [example["completion"][0]["content"] for example in load_examples(phase.require("dataset"), "validation")]
if roomy:
    sixteen["perplexity"] = perplexity(model, tokenizer, answers)
    sixteen["program_grew_mb"] = device_memory_mb() - before
    del model
    release_memory()
else:
    sixteen |= dict.fromkeys(("perplexity", "program_grew_mb"), memory.not_measured(needed, free))

# %% [markdown]
# ### Explanation
# Now in 4-bit: each number is rounded to one of sixteen steps (the NF4 scale), like describing a height as "tall" or
# "very tall" instead of in millimetres. The dictionary stays in 16 bits.

# %%
before = device_memory_mb()
model, tokenizer = load_model(base.path, settings, four_bit=True)
four = {"weights_mb": weights_mb(model), "perplexity": perplexity(model, tokenizer, answers)}
four["program_grew_mb"] = device_memory_mb() - before

# %% [markdown]
# ### Explanation
# Side by side. *weights_mb*: the stored numbers. *perplexity*: lower is better, so a rise is the price of rounding.
# *program_grew_mb*: how much the whole program grew while loading and reading. On a processor the 4-bit column can be
# the larger one here, because weights are unpacked for use: the saving in stored weights is then no saving in total.

# %%
import pandas as pd

memory_table = pd.DataFrame({"16-bit": sixteen, "4-bit": four}).round(2)
memory_table

# %% [markdown]
# ### Key Concepts
# **Quantisation:** storing numbers with fewer steps. **NF4:** sixteen steps placed where a model's numbers are most
# often found (Dettmers et al. 2023, QLoRA).
#
# *Interview question:* What does 4-bit loading save? *A good answer:* the rounded layers take a little over a quarter
# of their 16-bit memory. The dictionary stays in 16 bits, so a small model saves less than a large one. Activations,
# which depend on batch size and text length, do not shrink. The price is some accuracy and, on a processor, time.

# %% [markdown]
# ### Explanation
# Which of the two will be trained here? The profile decides, and this is its reason: a card has little memory and
# computes fast, this computer's main memory is large and its processor slow.

# %%
print("training in", "4-bit" if settings.model.load_in_4bit else "16-bit", "on", settings.model.device)

# %% [markdown]
# ### Explanation
# **LoRA**: we do not touch the model. Beside chosen layers we lay two thin strips of new numbers, and train only
# those, like notes on tracing paper over a printed book. For this look we use the 4-bit copy that is loaded; notebook
# 06 trains in the form named above. "Stored" counts two 4-bit numbers packed into one byte as one.

# %%
from lekhai_helpers.learn.model import attach_lora, count_parameters

model = attach_lora(model, settings.lora, settings.seed)
numbers = count_parameters(model)
print(f"{numbers['trained']:,} of {numbers['all']:,} stored numbers are trained")

# %% [markdown]
# ### Explanation
# Three pairs of strips: two rows make a pair, `lora_A` and `lora_B`. The number both share is the *rank*; it says how
# thin the strips are.

# %%
strips = [(name, tuple(p.shape)) for name, p in model.named_parameters() if p.requires_grad]
pd.DataFrame(strips[:6], columns=["name", "shape"])

# %% [markdown]
# ### Explanation
# Which layers carry strips, and how many numbers is that each? The plan spoke of the "creative layers": in practice
# all linear layers of attention (who looks at whom) and MLP (what is thought about it).

# %%
modules = pd.DataFrame(
    [(name.split(".")[-4], p.numel()) for name, p in model.named_parameters() if p.requires_grad],
    columns=["module", "numbers"],
)
per_module = modules.groupby("module")["numbers"].sum().sort_values(ascending=False)
per_module.to_frame()

# %% [markdown]
# ### Key Concepts
# **LoRA** (low-rank adaptation, Hu et al. 2021): the change of a large matrix is written as a product of two thin
# ones. **Rank r:** how thin. **Alpha:** how loudly the change is heard.
#
# *Interview question:* Why does LoRA work with so few numbers? *A good answer:* fine-tuning changes a model in few
# directions; a low rank is enough to describe them, and the frozen base keeps what it knew.

# %% [markdown]
# ### Explanation
# A last look: do numbers flow forwards and backwards through the 4-bit model into the strips? One step on one example.

# %%
text = tokenizer(answers[0], return_tensors="pt").to(model.device)
loss = model(**text, labels=text["input_ids"]).loss
loss.backward()
touched = sum(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.parameters() if p.requires_grad)
print(f"loss {loss.item():.2f}; {touched} of {len(strips)} strips felt it")

# %% [markdown]
# ### Explanation
# In a fresh LoRA one strip of each pair starts at zero, so the other feels nothing yet: half of them is right. The
# settings are written down for notebook 06.

# %%
from lekhai_helpers.core.run_folder import write_json

assert touched >= len(strips) // 2 and numbers["trained"] == per_module.sum()
assert four["weights_mb"] < sixteen["weights_mb"], "4-bit took no less memory than 16-bit"
lora_file = write_json(phase.folder / "lora_config.json", settings.lora.model_dump())
figures = {"sixteen_bit": sixteen, "four_bit": four, "estimated_mb": round(estimated.total)} | numbers
manifest = phase.finish({"lora_config": lora_file}, figures)

# %% [markdown]
# ## What this did not show
# What training really takes: the table at the top is an estimate from shapes. Notebook 06 measures one step on the
# longest row and holds it against this estimate.
