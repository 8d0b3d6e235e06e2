# %% [markdown]
# # Did fine-tuning help?
#
# **Goal.** The same briefs, the same settings, the same seeds as in notebook 05, before and after, side by side, with
# an interval that says how sure we may be.
#
# Then two questions more: can the form be *guaranteed*, and at what price? And does the model listen to a tone that is
# asked for? A recipe without a grammar, or without tones, passes over that part with a sentence.
#
# **Needs** `sft_adapter` from notebook 06, `baseline` from notebook 05 and `dataset` from notebook 03. **Makes**
# `refinement`: the comparison.

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
# We open the run and pick up the base, the trained strips and the answers from before.

# %%
import json

from lekhai_helpers.core.run_folder import open_phase
from lekhai_helpers.prepare.bases import load_pointer
from lekhai_helpers.prepare.contracts import get_contract, words_of

phase = open_phase("07_refinement", RECIPE, PROFILE, RUN, OVERRIDES)
settings = phase.settings
base, adapter = load_pointer(phase.require("merged_base")), phase.require("sft_adapter")
baseline = json.loads(phase.require("baseline").read_text())
contract, words = get_contract(settings.data.contract), words_of(settings)
print(phase.opening(), f"it writes: {words.units}; a sound one is {words.one}", sep="\n")

# %% [markdown]
# ### Explanation
# The base with the strips laid on it: this is the fine-tuned model. Where the base is in 16 bits, the strips are added
# into it, which changes nothing in kind and writes faster.

# %%
from lekhai_helpers.learn.model import fold_adapter, load_model

model, tokenizer = load_model(base.path, settings, adapter=adapter)
model = fold_adapter(model)

# %% [markdown]
# ### Explanation
# It answers all the frozen briefs, each once per seed.

# %%
from lekhai_helpers.learn.constrained import Bill
from lekhai_helpers.measure.evaluation import model_writer, shown_figures, summarize_stage, write_scripts
from lekhai_helpers.prepare.dataset import briefs_of

briefs = briefs_of(settings)
bill = Bill()  # stays empty until a grammar is used, further down
writer = model_writer(model, tokenizer, settings, bill)
after = write_scripts(writer, briefs, settings, settings.evaluation.seeds)
figures = summarize_stage(phase.ledger, "sft", after)

# %% [markdown]
# ### Explanation
# The first brief before fine-tuning (the answers of notebook 05), the first 500 characters as the model wrote them.

# %%
import pandas as pd

before = baseline["merged"]
pd.set_option("display.max_colwidth", 120)
print("BEFORE", before[0]["text"][:500], sep="\n")

# %% [markdown]
# ### Explanation
# And after. First the verdict, then the text as the contract shows it to a reader: as a table where it can be read as
# one, else as it was written. A table can be drawn and still break the contract: the lines above say how. *The contract
# is kept* says only that no fault that it counts was found, not that the question is answered or that the text makes
# sense: read it.

# %%
from lekhai_helpers.core.notebook import readable

print("AFTER", *(after[0]["problems"] or ["the contract is kept"]), sep="\n")
readable(contract.show(after[0]["text"]))

# %% [markdown]
# ### Explanation
# The figures of the new stage: how many texts keep the contract, how many stopped by themselves, how long they are, and
# what the contract counts besides.

# %%
pd.Series(shown_figures(figures, words)).to_frame("sft")

# %% [markdown]
# ### Explanation
# All stages so far in one picture. The thin lines are the intervals: with few texts they are long, and that is honest.
# They treat every text as independent. Texts of one brief are alike, so the truth is less sure than the lines say.

# %%
from lekhai_helpers.core.plots import validity_by_stage

validity_by_stage(phase.ledger.summary(), words)

# %% [markdown]
# ### Explanation
# Before against after, brief by brief. The interval comes from drawing the briefs again and again at random (a
# *bootstrap*). If it does not include 0, chance is a poor explanation.

# %%
from lekhai_helpers.measure.evaluation import paired_difference

difference = paired_difference(before, after, settings.seed)
sure = difference["low"] > 0 or difference["high"] < 0
found = "a clear difference" if sure else "no difference shown"
print(f"{difference['difference']:+.0%} {words.many}", end=" ")
print(f"({difference['low']:+.0%} to {difference['high']:+.0%}): {found}")

# %% [markdown]
# ### Explanation
# The same, drawn: the ring is before, the dot after. A brief whose dot stands left of its ring got worse. Where both
# coincide, training changed nothing for this brief.

# %%
from lekhai_helpers.core.plots import paired_by_brief
from lekhai_helpers.measure.evaluation import valid_by_brief

paired_by_brief(valid_by_brief(before), valid_by_brief(after), ("the merged base", "after fine-tuning"), words)

# %% [markdown]
# ### Key Concepts
# **Confidence interval:** the range the true value plausibly lies in. **Paired comparison:** each brief is its own
# control, so easy and hard briefs cancel out.
#
# *Interview question:* 9 of 12 outputs are valid. Is the model 75% good? *A good answer:* that is the estimate; with
# twelve texts the interval runs from below a half to above nine tenths, so I would test more briefs before claiming.

# %% [markdown]
# ### Explanation
# What still goes wrong, counted.

# %%
from lekhai_helpers.measure.evaluation import problem_counts

pd.Series(problem_counts(after), name="texts", dtype="int").sort_values(ascending=False).to_frame()

# %% [markdown]
# ### Explanation
# The **error gallery**: the five worst texts, each with what code can find wrong in it and the line it stands in.
# Beside the contract's own rule it looks for what the contract can count against the brief, and for texts cut by the
# limit. Numbers say how often, only reading says why.

# %%
from lekhai_helpers.measure.gallery import gallery_html, worst

exhibits = worst(after, briefs, n=5, contract=contract.name)
gallery_html(exhibits, settings.language)

# %% [markdown]
# ### Explanation
# By group: where did training help, and where not? *n of m* with its interval; groups are small.

# %%
from lekhai_helpers.measure.by_group import by_group, mean_facts

sides = {"before": before, "after": after}
by_group(sides)

# %% [markdown]
# ### Explanation
# And what the contract counted on the way, as means: words, and whatever else it knows of such texts. Where English
# explanations are asked for, *reading_ease* says how easily they read (Flesch: 60 and more is plain English) and
# *grade* for which school year. A text without such a thing is not in the mean, so look at how many texts had it.

# %%
mean_facts(sides).round(2)

# %% [markdown]
# ## Side by side
#
# ### Explanation
# The same question, both answers, next to each other: the oldest test of all is to read. Every pair is stored in
# `side_by_side.csv`, with the tokens and the seconds each answer took.

# %%
from lekhai_helpers.core.run_folder import write_text
from lekhai_helpers.measure.side_by_side import cost as answer_cost
from lekhai_helpers.measure.side_by_side import side_by_side

beside = side_by_side(phase.ledger.responses(), "merged", "sft").rename(columns={"industry": words.group})
write_text(phase.folder / "side_by_side.csv", beside.to_csv(index=False, lineterminator="\n"))
print(f"{len(beside)} pairs of answers stored")
beside.groupby(words.group).head(1).drop(columns=["brief_id", "seed"])

# %% [markdown]
# ### Explanation
# What an answer costs: how long it is and how long it took. Answers are written many at a time, so these seconds are
# an answer's share of its batch, not what one person would wait; notebook 12 measures that, on the finished file. A
# model that learned to stop costs less, whatever it says.

# %%
answer_cost(phase.ledger.responses(), ("merged", "sft")).round(2)

# %% [markdown]
# ## Right or wrong
#
# ### Explanation
# The questions with one right answer, asked of the tuned model as notebook 05 asked them before. The share that is
# right, with its interval, and the difference on the same questions. Form and truth are two things: an answer can keep
# the contract and be wrong. *p* is how often chance alone would bring such a change; with few questions this exact test
# is stricter than the interval, and it decides.

# %%
from functools import partial

from lekhai_helpers.measure.right_answers import answer_right, compare_right, in_words, record_right, right_briefs

asked = right_briefs(settings)
right = answer_right(partial(model_writer, model, tokenizer), asked, settings)
record_right(phase.ledger, "sft", right, asked, settings)
rightness = compare_right(baseline["right"], right, asked, settings)
print(in_words(rightness))

# %% [markdown]
# ## Whose voice?
#
# ### Explanation
# Where the answers are to have one person's voice, a **style test** asks a small classifier three things, on writing it
# was not taught by: does it know the writer from the untrained model at all; does the tuned model stand nearer to the
# writer; can the two models be told apart? It is shown common words, marks and their order, and a star for every other
# word, so that topics cannot help. Guessing gives 50%. Such a classifier takes all that is unlike the untrained model
# for the writer's, noise too: so "nearer" is said only if the tuned answers are also more *alike* to real pages. Our
# sample's writer is invented, and cannot be asked; with notes of your own you are the writer.

# %%
from lekhai_helpers.measure.voice import voice_test
from lekhai_helpers.prepare.dataset import load_rows

voice = voice_test(load_rows(phase.require("dataset")), before, after, settings)
print(voice["sentence"])

# %% [markdown]
# ### Key Concepts
# **Accuracy:** the share of right answers, for questions that have one. **Style test:** can a classifier tell whose
# text this is, when it cannot go by the topic?
#
# *Interview question:* A classifier tells base and tuned apart nine times in ten. Has the model found the writer's
# voice? *A good answer:* not shown. Shorter texts or a broken form would be told apart as well; so I ask besides
# whether the tuned texts stand nearer to texts of the writer that no model was trained on.

# %% [markdown]
# ## A form that cannot break
#
# ### Key Concepts
# **Constrained decoding:** before each token, a grammar strikes out everything that would break the form, and the model
# chooses among the rest. Like a stencil over the paper: the hand is free, the edge is not. **Grammar:** the contract
# written as rules a program can follow letter by letter. **Mass given up:** the probability the model had put on the
# tokens that were struck out. Where it is small, the grammar only confirms what the model meant anyway.
#
# *Interview question:* with a grammar all outputs parse. Why fine-tune at all? *A good answer:* a grammar guarantees
# the form and knows nothing of the content. An untrained model held to it fills the form with nonsense; the more of
# the model's probability the grammar has to strike out, the further the text is from what the model would have said.

# %% [markdown]
# ### Explanation
# The grammar of the first brief, as the contract writes it: what may follow what, letter by letter. Letters beyond
# English stand as code points: `\x{995}` is ক. It may also know words that only this brief brings in. Where a recipe's
# contract has no grammar, this is said here, and the cells up to the tone test have nothing to show.

# %%
from lekhai_helpers.measure.evaluation import brief_grammar

grammar = brief_grammar(briefs[0], settings) if contract.grammar else None
if grammar:
    print(grammar.lark[:220], "...", f"words of this brief: {', '.join(grammar.words) or 'none'}", sep="\n")
else:
    print(f"the contract {contract.name} has no grammar: its form is learned, not guaranteed")

# %% [markdown]
# ### Explanation
# The same rules for llama.cpp, whose language is called GBNF. Notebook 12's files can be held to them as well. There a
# text may still be cut by the limit of new tokens; here the last tokens of a table are steered, so that it always ends.

# %%
print(grammar.gbnf[:220], "...", sep="\n") if grammar else None

# %% [markdown]
# ### Explanation
# The same briefs, the same settings, the first seed once more, now with the grammar of each brief. To the ledger this
# is a stage of its own, `sft+grammar`: it must never be mixed up with what the model does by itself.

# %%
seed = settings.evaluation.seeds[0]
held = write_scripts(writer, briefs, settings, [seed], constrained=True) if grammar else []
held_figures = summarize_stage(phase.ledger, "sft+grammar", held) if held else {}

# %% [markdown]
# ### Explanation
# Both ways of writing side by side, on the same briefs and the same seed. The first lines are what the grammar buys.
# The speed is what it costs in time. The lines after that are where a cost in quality would show: fewer words, more
# repetition, less of the language.

# %%
from lekhai_helpers.measure.evaluation import text_figures, text_perplexity

ways = {"free": [row for row in after if row["seed"] == seed], "held to the grammar": held} if held else {}
table = pd.DataFrame({way: text_figures(rows, contract.name) for way, rows in ways.items()})
if held:
    table.loc["perplexity"] = [text_perplexity(model, tokenizer, rows, settings, briefs) for rows in ways.values()]
table if held else None

# %% [markdown]
# ### Explanation
# *Perplexity* is how surprised this same model is by the finished texts, each after its own brief: if the held texts
# surprise it more, the grammar pushed it where it would not have gone. More prices, measured while it wrote: the
# seconds before the first token (the dictionary is read once, a grammar for each text), the time the grammar took for
# each token, and the probability struck out, as a mean in nats (0 is nothing, 0.7 is about half of it). *Steered* are
# the tokens chosen because the limit was near.

# %%
cost = bill.figures() if held else {}
for metric, value in cost.items():
    phase.ledger.summarize("sft+grammar", metric, value, n=bill.tokens)
pd.Series(cost, dtype="float").to_frame("the price of the grammar") if held else None

# %% [markdown]
# ### Explanation
# One of them to read: the answer of the same brief that stands first in the gallery, now within the grammar. The form
# is right by construction. Whether the words are any better is for you to say.

# %%
shown = exhibits[0].brief_id if exhibits else briefs[0].id
text = next((row["text"] for row in held if row["brief_id"] == shown), None)
readable(contract.show(text)) if text else None

# %% [markdown]
# ## Does it listen to the tone?
#
# ### Explanation
# The **tone test**. Each brief is asked for in two tones, and once more in the first tone with other dice. Two texts
# never share all their words, so the distance of two tones says nothing by itself: it is held against the distance of
# one tone from itself. Distances run from 0 (the same words as often) to 1 (no word shared). Where the recipe names no
# two tones (`evaluation.tones`), there is nothing to test, and the next cells stay empty.

# %%
from lekhai_helpers.measure.tone import distances, write_tones

tones = settings.evaluation.tones
tone_rows = write_tones(writer, briefs[:6], tones, settings) if tones else []
print(f"tones: {' / '.join(tones) or 'none in this recipe, so no tone test is made'}")
apart = pd.DataFrame(distances(tone_rows), columns=["brief_id", "between", "within"])
apart.set_index("brief_id").round(3) if tones else None

# %% [markdown]
# ### Explanation
# If the tone did nothing, any of a brief's three texts could be the one of the other tone. So we shuffle the labels
# within each brief, in every possible way, and count how often the difference comes out at least as large as the true
# one. That share is *p*. Above 0.05 we say that no effect was shown, which is not the same as showing that there is
# none.

# %%
from lekhai_helpers.measure.tone import tone_test

tone = tone_test(tone_rows, settings.seed) if tones else {}
if tone:
    print(f"between tones {tone['between']:.3f}, within one {tone['within']:.3f}, difference {tone['difference']:+.3f}")
    print(f"p = {tone['p']:.4f} from {tone['briefs']} briefs (at best {tone['least_p']:.4f}): {tone['words']}")

# %% [markdown]
# ### Explanation
# Which words speak most for each tone. *z* is the log odds of a word in one tone against the other, in units of its own
# uncertainty. Many words are looked at, so some stand out by chance alone; and a word that comes often in the texts of
# one single brief is that text's loop, not a tone. Different words are also no proof that the *right* tone was hit.

# %%
from lekhai_helpers.measure.tone import tone_words

tone_words(tone_rows) if tones else None

# %% [markdown]
# ### Key Concepts
# **Permutation test:** make chance visible by shuffling the labels that should not matter if nothing is there. It needs
# no bell curve. **p-value:** how often chance alone would look at least this strong.
#
# *Interview question:* p is 0.3. Does the model ignore the tone? *A good answer:* not shown either way. With few briefs
# only a strong effect could be found, so I would look at the size of the difference and test more briefs.

# %% [markdown]
# ### Explanation
# The check: before and after answered the same briefs (else the paired comparison looked only at those both have), the
# ledger holds these texts and no older ones, and every text held to the grammar keeps the contract (a table also ended
# by itself). The quality itself is reported, not asserted: a result is a result.

# %%
assert {row["brief_id"] for row in before} == {row["brief_id"] for row in after}, "run notebook 05 again"
assert list(phase.ledger.responses("sft")["text"]) == [row["text"] for row in after], "the ledger holds other texts"
must_end = bool(grammar and grammar.header)  # a table is steered to its end; another text may be cut by the limit
assert len(held) == (len(briefs) if grammar else 0)
assert all(row["ok"] and row["stopped"] for row in held if row["stopped"] or must_end)

# %% [markdown]
# ### Explanation
# Everything is written down: the texts of both ways, the comparison, the price of the grammar, the tone test. Then the
# manifest.

# %%
from lekhai_helpers.core.run_folder import write_json

texts = {"sft": after, "sft+grammar": held, "tones": tone_rows}
held_sides = table.astype(object).where(table.notna(), None).to_dict()
found = {"difference": difference, "tone": tone, "grammar": cost | held_sides}
found |= {"right": rightness, "voice": voice}
refinement = write_json(phase.folder / "refinement.json", texts | found)
manifest = phase.finish({"refinement": refinement}, {"sft": figures, "sft+grammar": held_figures} | found)

# %% [markdown]
# ## What this did not show
# Whether the answers are any *good*. A sound form can be dull, and a text held to a grammar can be nonsense in good
# form. Notebook 11 looks at that. Where there is a grammar, its price was measured with one seed. And settings were
# tried out on development briefs, so this exam is a little kind; notebook 12 takes held-out ones, by which nothing is
# chosen (of them, only those with one right answer were asked here).
