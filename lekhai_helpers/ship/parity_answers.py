"""The parity gate's questions that need answers and figures: does a file stop, keep its form, find the same likely?

Like those in `ship.parity_checks` they are plain functions, so that every fault can be planted in a test. What a
smaller file loses has the cause "rounding": the export did nothing wrong, and yet that file is not passed.
"""

from __future__ import annotations

from collections.abc import Sequence

from lekhai_helpers.ship.parity_checks import NOT_SHOWN, ROUNDING, SPECIAL, TRAINING, WEIGHTS, Check

STOP_SLACK = 0.25  # share of the answers Hugging Face ended that a file may run on in: two roundings may part anywhere
SHARE_SLACK = 0.1  # how far a smaller file's contract share may lie under the 16-bit one's
_LARGER = "take the next larger kind, or keep sensitive tensors larger (the lesson of notebook 12), and ask again"


def check_stops(
    file: str, ours: Sequence[bool], theirs: Sequence[bool], whole: bool, parted: Sequence[bool] = ()
) -> Check:
    """Does the file end its answers where Hugging Face does? One truth value for each greedy prompt.

    `whole` says that the file holds the model in 16 bits: then no rounding excuses it. `parted` says of each prompt
    whether the file's text left Hugging Face's before that ended: such an answer may run on by chance, so of the 16-bit
    file it shows nothing; one that says the same and then goes on shows that the end is not known.
    """
    name = "stops by itself"
    if not ours:
        fix = "answer at least one prompt: parity_gate(..., greedy=4)"
        return Check(name, file, False, "not asked: no greedy answers", NOT_SHOWN, fix)
    runs = [place for place, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a and not b]
    ended = sum(ours)
    found = f"of {len(ours)} answers {sum(theirs)} ended by themselves, {ended} in Hugging Face; {len(runs)} ran on"
    if not ended:
        fix = "train longer, or raise decoding.max_new_tokens: the model itself does not end its answers"
        return Check(name, file, False, found, TRAINING, fix)
    same = [place for place in runs if parted and not parted[place]]
    if len(runs) <= STOP_SLACK * ended and not (whole and same):
        return Check(name, file, True, found)
    if not whole:
        return Check(name, file, False, found, ROUNDING, _LARGER)
    if parted and all(parted[place] for place in runs):
        fix = "all of those went another way before their end: ask more prompts, parity_gate(..., greedy=12)"
        return Check(name, file, False, found, NOT_SHOWN, fix)
    fix = "the end-of-turn token is not the one the model writes: see the check of that name, then convert again"
    return Check(name, file, False, found, SPECIAL, fix)


def check_share(file: str, share: float, whole_share: float) -> Check:
    """Does a smaller file write about as many valid texts as the 16-bit one? Both are shares from 0 to 1."""
    found = f"{share:.0%} of its texts are valid, {whole_share:.0%} of the 16-bit file's"
    if share >= whole_share - SHARE_SLACK - 1e-9:  # 0.8 - 0.1 is a little more than 0.7
        return Check("contract share", file, True, found)
    return Check("contract share", file, False, found, ROUNDING, _LARGER)


def check_distance(file: str, dlogp: float, most: float) -> Check:
    """Does the 16-bit file find each token about as likely as Hugging Face does? Both figures in nats a token."""
    name, found = "same probabilities", f"{dlogp:.4f} nats a token from Hugging Face"
    if dlogp <= most:  # NaN does not pass
        return Check(name, file, True, found)
    fix = "the weights are not those of the folder: convert the folder that was examined, and look for a warning"
    return Check(name, file, False, f"{found}, more than {most}", WEIGHTS, fix)
