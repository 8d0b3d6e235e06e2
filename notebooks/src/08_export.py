# %% [markdown]
# # How does the model leave the notebook?
#
# **Goal.** Save the model in two forms (the thin strips, and strips and base merged into one), measure how nearly
# both write the same, and write a model card that is true.
#
# **Needs** `sft_adapter` from notebook 06. **Makes** `exported_model`: a folder ready for use and for the hub.

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
# We open the run and pick up base and strips.

# %%
from lekhai_helpers.core.run_folder import open_phase
from lekhai_helpers.prepare.bases import load_pointer

phase = open_phase("08_export", RECIPE, PROFILE, RUN, OVERRIDES)
settings = phase.settings
base, adapter = load_pointer(phase.require("merged_base")), phase.require("sft_adapter")
phase.require("refinement")  # the model card quotes its figures
print(phase.opening())

# %% [markdown]
# ### Explanation
# The two forms should be compared in 32 bits: in 16 bits the computer's own rounding would be louder than any
# difference between them. But 32 bits take four bytes for every number of the model, and a small card has not room for
# a large model in that form. So we first ask what fits, like measuring the door before buying the sofa.

# %%
from lekhai_helpers.ship.export import comparison_plan

form = comparison_plan(base.path, settings)
print(form.sentence)

# %% [markdown]
# ### Explanation
# First form: base and adapter apart. We let it write a few answers *greedily* (always the likeliest token), because
# without dice two equal models must give equal texts. On a card where nothing can be compared, the model is loaded in
# 4 bits, which is enough to export from.

# %%
from lekhai_helpers.learn.model import generate, load_model, release_memory
from lekhai_helpers.measure.evaluation import brief_messages
from lekhai_helpers.prepare.dataset import briefs_of

briefs = briefs_of(settings)[: min(4, form.prompts)]
prompts = [brief_messages(brief, settings) for brief in briefs]
shorter = {"temperature": 0.0, "max_new_tokens": min(96, settings.decoding.max_new_tokens)}
greedy = settings.decoding.model_copy(update=shorter)
four_bit, exact = form.bits == 0 and settings.model.device == "cuda", form.bits == 32
model, tokenizer = load_model(base.path, settings, adapter=adapter, four_bit=four_bit, exact=exact)
apart = generate(model, tokenizer, prompts, greedy, 1)

# %% [markdown]
# ### Explanation
# And its scores for every next token of one full example: a finer comparison than the texts themselves. They are kept
# in the main memory, so that a card is free for the second form.

# %%
import torch

from lekhai_helpers.prepare.dataset import load_examples

example = load_examples(phase.require("dataset"), "validation")[0]
sample = tokenizer.apply_chat_template(example["prompt"] + example["completion"], tokenize=False)
ids = tokenizer(sample, add_special_tokens=False, return_tensors="pt").to(model.device)
if form.bits:
    with torch.inference_mode():
        scores_apart = model(**ids).logits.float().log_softmax(-1).cpu()

# %% [markdown]
# ### Explanation
# Now the export. The strips are added into the 16-bit weights; nothing is ever added into 4-bit weights, where most of
# a small change is lost in the rounding (measured below; in the recorded run a third was left). Files are written
# under another name first, so that no half model is ever found.

# %%
from lekhai_helpers.ship.export import save_adapter, save_merged_16bit

folder = phase.folder / "model"
save_adapter(model, tokenizer, folder / "adapter")
save_merged_16bit(model, tokenizer, folder / "merged")
sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())

# %% [markdown]
# ### Key Concepts
# **Adapter:** the strips alone; small, needs its base. **Merged model:** one folder that needs no
# separate base; Transformers can load it, other programs need notebook 12.
#
# *Interview question:* Why not merge LoRA into the 4-bit model you trained on? *A good answer:* the merged weights
# would have to be rounded to sixteen steps again, and a small correction is often smaller than half a step. Merge into
# 16-bit, quantise afterwards, measure.

# %% [markdown]
# ### Explanation
# Second form: the merged folder, its 16-bit weights loaded and computed as the first was.

# %%
del model
release_memory()
together = []
if form.bits:
    model, tokenizer = load_model(folder / "merged", settings, four_bit=False, exact=exact)
    together = generate(model, tokenizer, prompts, greedy, 1)
    with torch.inference_mode():
        scores_together = model(**ids).logits.float().log_softmax(-1).cpu()
    del model

# %% [markdown]
# ### Explanation
# Are they the same model? The share of equal texts, and of places where both would choose the same next token. The
# merged weights are rounded to 16 bits, so scores differ a little; where two tokens are nearly equally likely, that
# can tip the scale, and from there on a text goes another way. A KL divergence of 0 means identical predictions; the
# next cell but one gives a number to compare it with.

# %%
figures = {"compared_in_bits": form.bits}
if form.bits:
    same_texts = sum(a.text == b.text for a, b in zip(apart, together, strict=True))
    same_next = (scores_apart.argmax(-1) == scores_together.argmax(-1)).float().mean().item()
    distance = (scores_apart.exp() * (scores_apart - scores_together)).sum(-1).mean().item()
    figures |= {"same_greedy_texts": same_texts, "of": len(apart), "same_next_token": round(same_next, 4)}
    figures["kl_divergence"] = round(distance, 6)
    print(f"{same_texts} of {len(apart)} greedy texts equal; same next token at {same_next:.1%} of places")
    print(f"mean distance of the predictions (KL divergence): {distance:.5f}")

# %% [markdown]
# ### Explanation
# Where a text differs, this is where the two part: the last common characters and how each goes on.

# %%
import os

for a, b in zip(apart, together, strict=True):
    common = len(os.path.commonprefix([a.text, b.text]))
    if a.text != b.text:
        print(a.text[max(0, common - 30) : common], "→", a.text[common:][:25], "or", b.text[common:][:25])

# %% [markdown]
# ### Explanation
# And how loud is the computer's own rounding? The same merged model, computed in 16 bits, against itself in 32.

# %%
release_memory()
if exact:
    model, tokenizer = load_model(folder / "merged", settings, four_bit=False)
    with torch.inference_mode():
        scores_sixteen = model(**ids).logits.float().log_softmax(-1).cpu()
    rounding = (scores_together.exp() * (scores_together - scores_sixteen)).sum(-1).mean().item()
    figures["kl_of_rounding"] = round(rounding, 6)
    print(f"rounding of 16-bit arithmetic alone: {rounding:.5f}, {rounding / max(distance, 1e-9):.0f} times the merge")

# %% [markdown]
# ### Explanation
# Why never merge into 4-bit weights? The strips change the weights by a little, and 4 bits have sixteen steps. Here is,
# over all layers, how much of the change is still there (*survives*) and how far the weights lie from the wanted ones
# (*error*, in sizes of the change): merged in 16 bits as above; merged so and rounded afterwards; or added to weights
# that were rounded before and must be rounded again.
#
# Why are the two errors of 4 bits alike, and what survives is not? The error is nearly all the rounding of the weights
# themselves, which is larger than the change and the same either way. But weights that lie anywhere between two steps
# are tipped by the change as often as they should be, so on average it is kept; weights that stand on a step already
# fall back to it unless the change is more than half a step.
#
# A base that comes rounded has no 16-bit weights to compare with: then this cell says what to do.

# %%
from lekhai_helpers.prepare.bases import rounded_base
from lekhai_helpers.ship.merge_loss import delta_survival, survival_sentence, survival_table

left_out = rounded_base(base.path)
survival = None if left_out else delta_survival(base.path, adapter)
print(left_out or survival_sentence(survival))
None if left_out else survival_table(survival).round(3)

# %% [markdown]
# ### Explanation
# For programs that load 4-bit weights themselves (bitsandbytes), the merged model is also written in that form, loaded
# again and compared: with itself before the saving (that must be nothing) and with 16 bits (the price of rounding), on
# texts of the test part, which no weight was trained or chosen on. It holds if its predictions are at most 0.1 nats
# away, the rule by which notebook 12 judges its files.

# %%
from lekhai_helpers.ship.four_bit import save_4bit
from lekhai_helpers.ship.scoring import distinct_scripts

unseen = distinct_scripts(load_examples(phase.require("dataset"), "test"), limit=8)
texts = [tokenizer.apply_chat_template(row["prompt"] + row["completion"], tokenize=False) for row in unseen]
four = save_4bit(folder / "merged", phase.folder / "model-4bit", texts)
print(four.sentence)
figures["four_bit"] = four.sentence

# %% [markdown]
# ### Explanation
# The model card tells others what this is: licence, language, data, and results. Its figures come from the ledger;
# what was not measured is not claimed, and of the stages it knows only those count that this folder descends from: a
# notebook run again must not boast of what came later. Beside it stand the licences of all it rests on.

# %%
from lekhai_helpers.core.run_folder import write_text
from lekhai_helpers.ship.export import model_card
from lekhai_helpers.ship.licences import card_licence, licences_text

facts = {"base": base.title, "base_licence": base.licence if base.licence != "see its model card" else None}
facts["merge_t"] = phase.figures("02_sutro_fusion").get("merge_t")
facts = {name: fact for name, fact in facts.items() if fact is not None}
card = model_card(settings, phase.ledger, facts, stages=("base", "merged", "sft", "sft+grammar"))
write_text(folder / "README.md", card)
write_text(folder / "LICENCES.md", licences_text(settings, card_licence(folder)))
print(card)

# %% [markdown]
# ### Explanation
# What an upload to the Hugging Face hub would send: no state of the training, and no text that looks like a secret.
# This is a dry run: nothing leaves this machine. To upload, give `OVERRIDES = {"export.hub_id": "your-name/a-name"}`
# and set `SEND = True` below, with your token in the environment; `lekhai export --push` does the same.

# %%
import pandas as pd

from lekhai_helpers.ship.export import push, push_plan

SEND = False
plan = push_plan(folder)
print(push(folder, settings.export.hub_id) if SEND else "dry run: nothing was sent")
pd.DataFrame(plan, columns=["file", "MB"]).round(2)

# %% [markdown]
# ### Explanation
# The check: the mean distance and the share of equal next tokens within what the form of the comparison allows, and
# nothing private on the list. Then the manifest, which also says how it was compared.

# %%
if form.bits:
    kept = distance < form.most_distance and same_next > form.least_same_next
    assert kept, "the merged model is not the model that was trained"
assert not [path for path, _ in plan if "optimizer" in path or "/ref/" in path]
size = sum(file.stat().st_size for file in (folder / "merged").iterdir()) / 1e6
figures |= {"comparison": form.sentence, "merged_mb": round(size, 1)}
manifest = phase.finish({"exported_model": folder}, figures)
figures

# %% [markdown]
# ## What this did not show
# That the model survives being made smaller: notebook 12 writes the files for laptops and tests each. And where the
# sentence at the top says "not measured", the two forms were compared less finely, or not at all.
