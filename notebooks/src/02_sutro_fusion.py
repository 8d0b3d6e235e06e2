# %% [markdown]
# # Can two models become a better one?
#
# **Goal.** Blend a model that is good at Bengali with one that is good at structure, and find out by measuring
# whether the blend is better than no blend at all. "Sutro" (সূত্র) is thread: we tie two threads together.
#
# **Needs** `base` from notebook 01. **Makes** `merged_base`: the winner, which may be "no merge". A recipe whose
# `merge.method` is `none` has no donors: it says so below, the cells that train, blend and examine them have nothing to
# show, and the base goes on.

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
# We open the run and pick up the base model that notebook 01 left there.

# %%
from lekhai_helpers.core.run_folder import open_phase
from lekhai_helpers.prepare.bases import load_pointer, save_pointer

phase = open_phase("02_sutro_fusion", RECIPE, PROFILE, RUN, OVERRIDES)
settings = phase.settings
base = load_pointer(phase.require("base"))
print(phase.opening(), base.sentence, sep="\n")

# %% [markdown]
# ### Explanation
# Only the settings of this notebook. `t` is the share of the structure donor in the blend: 0 is none of it, 1 is
# nothing else.

# %%
settings.table().filter(regex=r"^(merge|lora)\.", axis=0)

# %% [markdown]
# ### Key Concepts
# **Merging** makes one model out of two without training: each number of the new model is a mixture of the two old
# ones.
# **SLERP** (spherical linear interpolation) walks along the arc between two points of a globe instead of tunnelling
# straight through it, so that the "length" of the weights is kept.
#
# *Interview question:* When can two models be merged? *A good answer:* only when they are built alike, cut text alike,
# count positions alike, and descend from a common ancestor. Otherwise the numbers mean different things.

# %% [markdown]
# ### Explanation
# The plan this project grew from wanted to merge TigerLLM with DeepSeek-R1-Distill-Qwen-7B. Before anyone downloads
# gigabytes, we compare the two models' small files: config (shapes), dictionary, licence, ancestors. Those below are
# recorded here, so no network is needed; a real merge is decided by the models' own files. `block` means: do not
# merge. `warn`: the tool would run, but look up or settle something first. A `(?)` marks what we know from second hand
# only, and `None` what is not said.

# %%
import pandas as pd

from lekhai_helpers.prepare.model_facts import recorded_facts
from lekhai_helpers.prepare.preflight import blocks, check_mergeable, pairs_table, preflight_table

pd.set_option("display.max_colwidth", None)  # whole sentences in the tables
plan_pair = next(iter(settings.merge.pairs.values()))
plan_checks = check_mergeable(*(recorded_facts(name) for name in plan_pair))
preflight_table(plan_checks)

# %% [markdown]
# ### Explanation
# In words: these two were never able to be merged. A "Tiger-7B" does not exist either; TigerLLM comes in two sizes,
# and both are built like Gemma, not like Qwen. Each line below alone is enough to stop.

# %%
print(*plan_pair, sep="  ×  ")
print(*blocks(plan_checks), sep="\n")

# %% [markdown]
# ### Explanation
# All the pairs worth knowing (`merge.pairs`) at once. Look at "same shapes, other positions": every tensor fits, so the
# merging tool would not complain, and the result would speak garbage, because the two models count positions to a
# different base (*rope*, the rotary position code). Like two rulers of the same length, one in inches and one in
# centimetres.

# %%
recorded_pairs = pairs_table(settings.merge.pairs)
recorded_pairs

# %% [markdown]
# ### Explanation
# So what can be merged here? Two children of the same base. Where the recipe names no ready donors, we make them,
# and call them what they are: a **language donor** (the base, trained shortly on Bengali ad prose) and a
# **structure donor** (the base, trained shortly on turning a brief into ordered steps). First, what they read.

# %%
from lekhai_helpers.learn.donors import donor_texts, heldout_perplexity, make_donor

merging = settings.merge
texts = donor_texts(merging)
alone = "merge.method is none: there are no donors, and the base goes on as it is"
print(*([text.sample for text in texts.values()] or [alone]), sep="\n\n")

# %% [markdown]
# ### Explanation
# The donors learn, each from the same start. The lines show how surprised each model is (its *loss*): it should fall.

# %%
from lekhai_helpers.ship.export import save_merged_16bit

made = {}
for role, text in texts.items():
    donor = getattr(merging, role)
    made[role] = make_donor(donor, base.path, text, settings, phase.folder / role, save_merged_16bit)

# %% [markdown]
# ### Explanation
# The same preflight for our own pair, this time from the models' own files. No row may say `block`. A donor we made
# here has the base as its parent and the base's licence; a ready model says its own on its card.

# %%
from lekhai_helpers.prepare.lineage import donor_facts

parents = [getattr(merging, role) for role in made]
donors = [donor_facts(*each, base) for each in zip(parents, made.values(), strict=True)]
own_checks = check_mergeable(*donors) if made else []
assert not blocks(own_checks), blocks(own_checks)
preflight_table(own_checks) if made else None

# %% [markdown]
# ### Explanation
# Has this machine room for it? The figures come from the shapes: numbers in the model, two bytes each, and how long
# a merge of known size took. Merges are made one after the other and only the best so far is kept, so the disk never
# holds more than two. `block` here means: a larger machine.

# %%
from lekhai_helpers.core.hardware import machine
from lekhai_helpers.prepare.merge_needs import resources, resources_table, shortages

shares = merging.t if made else []
needs = resources(*donors, machine(), len(shares)) if made else []
assert not shortages(needs), shortages(needs)
resources_table(needs) if made else None

# %% [markdown]
# ### Key Concepts
# **Dictionary** (vocabulary): the list of pieces a model cuts text into, each with a number. A model knows only the
# numbers. If number 5012 is "মা" in one model and "cat" in the other, their rows 5012 must never be mixed.
# **Union** keeps the pieces of both; a piece that only one knows must take that one's row, by name.
#
# *Interview question:* Why is a larger dictionary not simply better for Bengali? *A good answer:* each word costs
# fewer tokens, so texts are shorter and faster; but every new row is untrained until somebody trains it.

# %% [markdown]
# ### Explanation
# Do the two dictionaries differ, and what does a Bengali word cost in each? Fewer tokens a word is cheaper.

# %%
from transformers import AutoTokenizer

from lekhai_helpers.prepare import tokenizer_sync as sync

read = {f"{role} donor": AutoTokenizer.from_pretrained(path) for role, path in made.items()}
if made:
    offer = sync.surgery_offer(*read.values(), "structure", "language", "out")
    print(sync.union_sentence(*read.values()), offer, sep="\n")
sync.sync_table(read, texts["language"].heldout) if made else None

# %% [markdown]
# ### Explanation
# mergekit, the tool that merges, reads a small text file; this is the one for the first `t`. `tokenizer: source: base`
# says whose dictionary is kept: the language donor's, so that no Bengali piece is lost. Methods that add up what each
# donor has learned (`task_arithmetic`, `ties`, `dare_...`) also need the model both began as.

# %%
import yaml

from lekhai_helpers.prepare.lineage import common_base
from lekhai_helpers.prepare.merging import merge_config

ancestor = common_base(*donors, base) if made else None
sources = sync.token_sources(*read.values(), *made.values()) if made else None
configs = {t: merge_config(merging.method, *made.values(), ancestor, t, merging, sources) for t in shares}
shown = yaml.safe_dump(configs[shares[0]], sort_keys=False) if configs else "merge.method is none: no merge is made"
print(shown.replace(str(phase.folder.resolve()), "…").replace(base.path, "base"))

# %% [markdown]
# ### Key Concepts
# **Perplexity** says how surprised a model is by a text it has never seen: 1 would be no surprise at all, and lower
# is better. It compares only models that cut text with the same dictionary.
#
# *Interview question:* Why measure on held-out text? *A good answer:* on the text it was trained on, a model that
# learned by heart looks brilliant. Only new text shows what it understood.

# %% [markdown]
# ### Explanation
# A third exam: does the model still know where an answer ends? A merge that babbles on is useless however low its
# perplexity. Every candidate gets five briefs, and we count the answers that end by themselves within the limit.

# %%
from lekhai_helpers.learn.model import generate, load_model, release_memory
from lekhai_helpers.prepare.lineage import made_here

taught = not any(made_here(donor) for donor in parents)  # ready chat models were taught to end, our donors were not
limit = settings.decoding.max_new_tokens if taught else min(160, settings.decoding.max_new_tokens)
short = settings.decoding.model_copy(update={"max_new_tokens": limit})
asked = [row["prompt"] for row in texts["structure"].heldout[:5]] if made else []

# %% [markdown]
# ### Explanation
# One candidate, three figures: both perplexities, and the share of its five answers that end.


# %%
def examine(candidate):
    model, tokenizer = load_model(candidate.path, settings)
    perplexities = [heldout_perplexity(model, tokenizer, text) for text in texts.values()]
    answers = generate(model, tokenizer, asked, short, settings.seed)
    return (*perplexities, sync.stopped_share(answers)), answers


# %% [markdown]
# ### Explanation
# The rule for the winner, written down before looking: the lowest product of both perplexities, so that a candidate
# must be good at both; of equals, the one named first. A candidate that ends too few of its answers is out. Our own
# base was never taught to end an answer, so it is the measure: more than one answer fewer than "no merge" is too few.
# Ready-made chat models were taught it, and all five must end. "No merge" is never out, and it may win: then the merge
# is simply not used.

# %%
EXAMS = ["bengali_perplexity", "outline_perplexity", "stopped_share"]


def pick(rows, least):
    table = pd.DataFrame(rows, index=EXAMS).T
    stops = (table["stopped_share"] * len(asked)).round() >= least
    allowed = table[stops | (table.index == "no merge")]
    return (allowed[EXAMS[0]] * allowed[EXAMS[1]]).sort_values(kind="stable")


# %% [markdown]
# ### Explanation
# Who is not a blend goes first: "no merge", which is the base as it was, and both donors. Each keeps its own name and
# licence, in case it wins. The texts are Bengali prose and outlines that no donor has read.

# %%
from lekhai_helpers.prepare.lineage import as_candidate, donor_candidate

candidates = {"no merge": as_candidate(base.path, base.title, base.licence)}
for role, *parts in zip(read, parents, made.values(), donors, strict=True):
    candidates[role] = donor_candidate(role, *parts, base)
rows, answers = {}, {}
for name, candidate in candidates.items() if made else ():
    rows[name], answers[name] = examine(candidate)
    release_memory()

# %% [markdown]
# ### Explanation
# How many answers must a candidate end? Where our own base is the measure and ends one answer or none, nobody can be
# more than one worse than that: then this exam is shown and decides nothing.

# %%
ended = sum(answer.stopped for answer in answers.get("no merge", []))
least, stop_rule = sync.least_stops(ended, len(asked), taught) if made else (0, "nothing is merged or examined")
print(stop_rule)

# %% [markdown]
# ### Explanation
# Now the merges, one for every `t`. After each the helper repairs what mergekit leaves out: without its
# `generation_config.json` a merged model may never stop talking. It also proves that every piece of the language
# donor's dictionary is still there under its number. Then the merge takes the same exams, and only the best so far
# stays on the disk: the others' figures are enough.

# %%
from lekhai_helpers.prepare.lineage import blend_candidate
from lekhai_helpers.prepare.merging import delete_models, run_merge

for t, config in configs.items():
    folder = run_merge(config, phase.folder / f"merge_t{t:g}", made["language"], settings.seed)
    candidates[f"{t:g}"] = blend_candidate(folder, t, parents, donors, base)
    rows[f"{t:g}"], answers[f"{t:g}"] = examine(candidates[f"{t:g}"])
    release_memory()
    best = pick(rows, least).index[0]
    others = [candidate.path for name, candidate in candidates.items() if name != best]
    delete_models(others, phase.folder, keep=[*made.values()])
    print(f"t = {t:g}: merged, repaired, dictionary unchanged, examined; best so far: {best}")

# %% [markdown]
# ### Explanation
# Read each column by itself; lower is better, but for the last. 150 means: as unsure as when choosing among 150
# equally likely tokens. Only a `t` between 0 and 1 is a blend. Where the donors were made here, they practised on texts
# like those of the exam and "no merge" did not, so compare a blend with the donors, not only with "no merge".

# %%
table = pd.DataFrame(rows, index=EXAMS).T
table.index.name = "t"
table.round(2) if made else None

# %% [markdown]
# ### Explanation
# A free test of the merge. With SLERP and linear merging `t` = 0 must give the language donor again and `t` = 1 the
# structure donor. If their perplexities differ by more than 2%, something was mixed that should not be. Where it cannot
# be asked (`t` without 0 and 1, other methods, donors that cut text differently), the list is empty.

# %%
from lekhai_helpers.prepare.merging import exact_ends

for t, donor in exact_ends(merging, bool(made) and sync.read_alike(*read.values())).items():
    gap = (table.loc[t, EXAMS[:2]] / table.loc[donor, EXAMS[:2]] - 1).abs().max()
    print(f"t = {t} against the {donor}: perplexities differ by {gap:.2%} at most")
    assert gap <= 0.02, f"t = {t} is not the {donor} again"

# %% [markdown]
# ### Explanation
# The same as a picture, from all language (left) to all structure (right). The dashed lines are the candidates that
# are no blend. In the last panel higher is better.

# %%
from lekhai_helpers.core.plots import merge_curve

merge_curve(table.rename(index={f"{t:g}": t for t in configs})) if made else None

# %% [markdown]
# ### Explanation
# The rule from above names the winner. Those it left out are listed too.

# %%
score = pick(rows, least)
winner = score.index[0] if made else "no merge"
chosen, merge_t = candidates[winner], {f"{t:g}": t for t in configs}.get(winner)
print(f"winner: {winner} ({chosen.title}; licence: {chosen.licence})")
print(f"out, they do not stop: {sorted(set(table.index) - set(score.index)) or 'none'}")
behind = score / score.get(winner, 1) - 1
behind.map("{:+.1%}".format).rename("product of perplexities, against the winner") if made else None

# %% [markdown]
# ### Explanation
# The winner is held to its number once more, whatever its perplexity: `must_stop` raises where it ends too few. Where
# the rule above excludes nobody, and for "no merge", that number is 0 and this line cannot fail. Few is no disaster for
# a base like ours: notebook 06 teaches it to end. Below stands what the winner wrote for the first brief.

# %%
at_least = 0 if winner == "no merge" else least
wrote = answers.get(winner, [])
stopped = sync.must_stop(wrote, at_least)
print(stop_rule)
if made:
    print(f"{stopped} of {len(asked)} end by themselves, at least {at_least} must", wrote[0].text, sep="\n\n")

# %% [markdown]
# ### Explanation
# Which Bengali pieces of the language donor live on in the winner, and what a Bengali word costs before and after.

# %%
last = AutoTokenizer.from_pretrained(chosen.path)
first = read.get("language donor", last)
survived = sync.survival(first, last)
both = (("before", first), ("after", last))
cost = {name: sync.tokens_per_word(cutter, texts["language"].heldout) for name, cutter in both} if made else {}
print(survived.sentence, *(f"{name}: {value:.3f} tokens a word" for name, value in cost.items()), sep="\n")
survived.table(5) if made else None

# %% [markdown]
# ### Key Concepts
# **GGUF** is the one-file form in which a model runs on a laptop or phone (notebook 12 makes it). Its dictionary is
# translated on the way, and that is where things go wrong silently: the same sentence, cut into other tokens.
#
# *Interview question:* Why convert now, long before we need it? *A good answer:* if the merge cannot be converted,
# every hour of training after it is lost. Test the end of the road before you walk it.

# %% [markdown]
# ### Explanation
# The winner is converted in a temporary folder, llama.cpp loads the file, and both cut the same ten texts: Bengali,
# table rows, English, digits, an emoji. Not one may be cut differently. Then the file is deleted.

# %%
from pathlib import Path

from lekhai_helpers.prepare.merging import linked_copy, local_folder
from lekhai_helpers.ship.quantize import LlamaServer, convert_to_gguf, token_differences


def convert_and_compare(scratch):
    copy = linked_copy(local_folder(chosen.path), Path(scratch) / "model")
    gguf = convert_to_gguf(copy, Path(scratch) / "winner-f16.gguf")
    with LlamaServer(gguf, context=256, slots=1) as server:
        different = token_differences(server, AutoTokenizer.from_pretrained(copy), sync.CONVERSION_TEXTS)
    return gguf.stat().st_size / 1e6, different


# %% [markdown]
# ### Explanation
# A difference would stop us here: a model whose file reads other tokens writes other words. A base that comes rounded
# cannot be converted: then this cell says what to do, and notebook 12 compares the trained model's file.

# %%
import tempfile

from lekhai_helpers.prepare.bases import rounded_base

left_out, gguf_mb, different = rounded_base(chosen.path), 0, []
if not left_out:
    with tempfile.TemporaryDirectory() as scratch:
        gguf_mb, different = convert_and_compare(scratch)
print(left_out or f"{gguf_mb:.0f} MB; {len(different)} of {len(sync.CONVERSION_TEXTS)} texts are cut differently")
assert not different, f"the GGUF cuts these texts differently: {different}"

# %% [markdown]
# ### Explanation
# The winner stays, the donors' copies go too: each is as large as the model itself.

# %%
delete_models([candidate.path for candidate in candidates.values()], phase.folder, keep=[chosen.path])
left = {file.parent.name for file in phase.folder.rglob("*.safetensors")}
left

# %% [markdown]
# ### Explanation
# The check: every figure is a number; the winner knows more than one who guesses blindly (whose perplexity would be
# the number of pieces); a merge that won cuts Bengali no dearer than its language donor; only the winner is left.

# %%
import math

assert table.map(math.isfinite).all().all(), f"no number:\n{table}"
assert not made or table.loc[winner, EXAMS[:2]].max() < len(first), f"guessing would do better:\n{table}"
assert merge_t is None or cost["after"] <= 1.01 * cost["before"], (cost, survived.sentence)
assert left <= {Path(chosen.path).name}, f"more than the winner is left: {left}"

# %% [markdown]
# ### Explanation
# The figures of this notebook, for the report, and the manifest that says the phase is complete.

# %%
merge_table = table.reset_index().round(4).to_dict("records")
figures = {"merge_table": merge_table, "winner": winner, "method": merging.method, "asked": len(asked)}
figures |= {"stopped": stopped, "stop_rule": stop_rule, "tokens_per_word": cost, "gguf_mb": round(gguf_mb, 1) or None}
figures["merge_t"] = merge_t
manifest = phase.finish({"merged_base": save_pointer(chosen, phase.folder / "merged_base.json")}, figures)
figures

# %% [markdown]
# ## What this did not show
# That the winner writes better: perplexity is surprise, not quality. And donors made in a few steps from one base
# differ only a little; the recipe's larger pairs differ more, and may win or lose more clearly. Nor that merging beats
# training one model on both texts, which we did not try. One run, no interval: a lead of a few percent may be luck, and
# five answers are few: one more or less that ends may be luck too.
