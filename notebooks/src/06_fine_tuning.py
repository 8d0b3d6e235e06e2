# %% [markdown]
# # Is it learning, or learning by heart?
#
# **Goal.** Train the model on the scripts, watch it learn, and notice when it begins to memorise.
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
# a slight pull of all numbers towards zero.

# %%
settings.table().filter(regex=r"^(sft|lora)\.", axis=0)

# %% [markdown]
# ### Explanation
# The model, with fresh strips on it. Everything but the strips is frozen.

# %%
from lekhai_helpers.learn.model import attach_lora, device_memory_mb, load_model

model, tokenizer = load_model(base.path, settings)
model = attach_lora(model, lora, settings.seed)

# %% [markdown]
# ### Explanation
# Textbook and mock exam. One *epoch* is one reading of the whole textbook.

# %%
from lekhai_helpers.learn.training import effective_batch
from lekhai_helpers.prepare.dataset import load_examples

dataset = phase.require("dataset")
train, validation = load_examples(dataset, "train"), load_examples(dataset, "validation")
epochs = settings.sft.max_steps * effective_batch(settings.sft) / len(train)
print(f"{len(train)} training and {len(validation)} validation examples; {epochs:.1f} epochs")

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
# Training. A checkpoint is written now and then, so that a broken connection costs minutes and not the run: run this
# cell again and it goes on where it was. In Jupyter the curve is drawn while you watch.

# %%
from lekhai_helpers.core.notebook import is_interactive
from lekhai_helpers.learn.training import train_sft

result = train_sft(
    model, tokenizer, train, validation, settings, phase.folder / "checkpoints",
    ledger=phase.ledger, live_plot=is_interactive(),
)
print(f"{result.steps} steps in {result.seconds:.0f} s, {result.tokens_per_second:.0f} tokens a second")

# %% [markdown]
# ### Explanation
# The curve. Both lines should fall. Where the validation line turns upwards, learning by heart begins.

# %%
from lekhai_helpers.core.plots import loss_curves

loss_curves(phase.ledger.metrics("06_fine_tuning"))

# %% [markdown]
# ### Explanation
# The same in words. Which weights are kept is a setting, `sft.keep`: those of the lowest validation loss, or the last.
# The validation loss measures the next token, not the form of the whole script. That is why the profile `cpu` keeps
# the last weights even when the line says that the model began to learn by heart; the trial behind this choice is
# noted in `profiles/cpu.yaml`. Notebook 07 counts again.

# %%
print(result.overfitting)

# %% [markdown]
# ### Explanation
# A first look at what it writes now: one brief it has never seen.

# %%
from lekhai_helpers.core.recipe import data_file
from lekhai_helpers.learn.model import generate
from lekhai_helpers.measure.evaluation import brief_messages
from lekhai_helpers.prepare.dataset import load_briefs

brief = load_briefs(data_file(settings.evaluation.briefs))[0]
first = generate(model, tokenizer, [brief_messages(brief.prompt, settings)], settings.decoding, 1)[0]
print(first.text)

# %% [markdown]
# ### Explanation
# Only the strips are saved, a small file; the base model stays what it was.

# %%
from lekhai_helpers.ship.export import save_adapter

adapter = save_adapter(model, tokenizer, phase.folder / "adapter")
size = sum(file.stat().st_size for file in adapter.iterdir()) / 1e6
print(f"the adapter takes {size:.1f} MB")

# %% [markdown]
# ### Explanation
# The check: it made all its steps, every loss is a number, and the model learned something. Then the manifest.

# %%
import math
import shutil

losses = [loss for _, loss in result.train_loss + result.validation_loss]
assert result.steps == settings.sft.max_steps and all(math.isfinite(loss) for loss in losses)
assert result.train_loss[-1][1] < result.train_loss[0][1], "the training loss did not fall"
shutil.rmtree(phase.folder / "checkpoints")
figures = {"train_loss": result.train_loss[-1][1], "lowest_validation_loss": min(v for _, v in result.validation_loss)}
figures |= {"kept_step": result.kept_step, "overfitting": result.overfitting, "seconds": result.seconds}
figures |= {"tokens_per_second": result.tokens_per_second, "peak_memory_mb": round(device_memory_mb(peak=True))}
manifest = phase.finish({"sft_adapter": adapter}, figures)

# %% [markdown]
# ## What this did not show
# Whether the scripts are valid and better than before: one example is a vibe. Notebook 07 counts. Nor
# whether scripts copy training text: no cell here searches for copies.
