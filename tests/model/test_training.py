"""Supervised fine-tuning with real Unsloth and TRL on a tiny model: it learns, only what it should, and again."""

import pytest

from lekhai_helpers.core.ledger import Ledger
from lekhai_helpers.learn.model import attach_lora, load_model
from lekhai_helpers.learn.training import TrainingError, TrainingResult, short_lora_training, train_sft


@pytest.fixture
def fresh(tiny, settings):
    """Return a function that gives the tiny model with fresh LoRA, the same each time."""

    def make():
        model, tokenizer = load_model(tiny, settings)
        return attach_lora(model, settings.lora, settings.seed), tokenizer

    return make


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path / "l.db", experiment="e", recipe="lekhai", profile="smoke", settings="{}") as opened:
        yield opened


def with_steps(settings, **changes):
    return settings.model_copy(update={"sft": settings.sft.model_copy(update=changes)})


def train(fresh, examples, settings, folder, **options):
    return train_sft(*fresh(), examples[:8], examples[8:10], settings, folder, **options)


def test_the_loss_falls_and_the_same_seed_gives_the_same_losses(fresh, examples, settings, tmp_path, ledger):
    first = train(fresh, examples, settings, tmp_path / "a", ledger=ledger)
    assert first.steps == 8 and first.tokens_per_second > 0
    assert first.train_loss[-1][1] < first.train_loss[0][1] - 0.3
    assert [step for step, _ in first.validation_loss] == [4, 8]
    assert first.kept_step == min(first.validation_loss, key=lambda pair: pair[1])[0]
    table = ledger.metrics("06_fine_tuning")
    in_ledger = table[table["name"] == "loss"]
    assert list(zip(in_ledger["step"], in_ledger["value"], strict=True)) == first.train_loss
    assert set(table["name"]) >= {"loss", "eval_loss", "learning_rate", "grad_norm"}
    second = train(fresh, examples, settings, tmp_path / "b")
    assert second.train_loss == first.train_loss and second.validation_loss == first.validation_loss


def test_only_the_completions_tokens_are_learned(fresh, examples, settings, tmp_path, monkeypatch):
    """Learning the brief as well teaches the model to write briefs; the end token must be among what is learned."""
    import torch
    from trl import SFTTrainer

    seen = []
    real = SFTTrainer.compute_loss

    def watch(self, model, inputs, *args, **kwargs):
        seen.append((inputs["input_ids"].clone(), inputs["labels"].clone()))
        return real(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(SFTTrainer, "compute_loss", watch)
    model, tokenizer = fresh()
    quick = with_steps(settings, max_steps=2, eval_every=2)
    train_sft(model, tokenizer, examples[:8], examples[8:10], quick, tmp_path / "a")
    completions = {example["completion"][0]["content"] + "<eos>" for example in examples[:10]}
    assert len(seen) >= 3
    for ids, labels in seen:
        for row, label in zip(ids, labels, strict=True):
            learned = label != -100
            assert torch.equal(row[learned], label[learned])
            assert tokenizer.decode(row[learned]) in completions
            whole = tokenizer.decode(row[row != tokenizer.pad_token_id])
            assert whole.count("<bos>") == 1 and whole.startswith("<bos>") and whole.count("<eos>") == 1


def test_an_interrupted_training_goes_on_at_its_last_checkpoint(fresh, examples, settings, tmp_path, capsys):
    """It must end where the uninterrupted one ends; starting anew would only look as if it resumed."""
    whole = train(fresh, examples, settings, tmp_path / "a")
    (tmp_path / "a" / "checkpoint-8" / "trainer_state.json").unlink()  # killed while it was being written
    capsys.readouterr()
    again = train(fresh, examples, settings, tmp_path / "a")
    assert (again.train_loss, again.validation_loss) == (whole.train_loss, whole.validation_loss)
    said = capsys.readouterr().out
    assert "step    5 of 8" in said and "step    4 of 8" not in said


def test_a_training_that_was_done_is_not_driven_a_step_too_far(fresh, examples, settings, tmp_path):
    """The Trainer, given the checkpoint of the last step, trains one more; the phase may have failed after it."""
    whole = train(fresh, examples, settings, tmp_path / "a")
    again = train(fresh, examples, settings, tmp_path / "a")
    assert again.steps == 8 and again.train_loss == whole.train_loss
    assert train(fresh, examples, settings, tmp_path / "a", resume=False).train_loss == whole.train_loss


def test_what_was_begun_with_other_settings_or_rows_is_begun_anew(fresh, examples, settings, tmp_path):
    """A learning rate lowered after a failure would otherwise continue the checkpoint that failed."""
    quick = with_steps(settings, max_steps=2, eval_every=2)
    train(fresh, examples, quick, tmp_path / "a")
    slower = with_steps(settings, max_steps=2, eval_every=2, learning_rate=1e-4)
    anew, scratch = (train(fresh, examples, slower, tmp_path / name) for name in "ab")
    assert anew.train_loss == scratch.train_loss
    turned = list(reversed(examples))
    anew, scratch = (train(fresh, turned, slower, tmp_path / name) for name in "ac")
    assert anew.train_loss == scratch.train_loss


def test_three_gradients_that_are_not_finite_stop_the_training(fresh, examples, settings, tmp_path, ledger):
    """A training that has lost its numbers runs to the end without an error and leaves a ruined model."""
    import torch

    model, tokenizer = fresh()
    with torch.no_grad():
        next(p for name, p in model.named_parameters() if ".lora_A." in name).fill_(float("nan"))
    with pytest.raises(TrainingError, match="not finite three times in a row: lower sft.learning_rate"):
        train_sft(model, tokenizer, examples[:8], examples[8:10], settings, tmp_path / "a", ledger=ledger)
    assert ledger.metrics("06_fine_tuning")["step"].max() <= 4


def test_the_donors_short_training_learns_plain_text_and_outlines(fresh, examples, settings, tmp_path):
    text = [example["completion"][0]["content"] for example in examples]
    fast = settings.model_copy(update={"merge": settings.merge.model_copy(update={"learning_rate": 1e-2})})
    for rows in (text, examples):
        losses = short_lora_training(*fresh(), rows, fast, 6, tmp_path / "donor")
        assert [step for step, _ in losses] == [1, 2, 3, 4, 5, 6]
        assert losses[-1][1] < losses[0][1] - 0.2


def result(validation, best_step=4):
    return TrainingResult([(1, 3.0), (8, 0.5)], validation, best_step, 8, 1.0, 1.0)


def test_overfitting_is_said_in_words():
    assert "no sign of overfitting" in result([(4, 1.0), (8, 1.005)]).overfitting
    said = result([(4, 1.0), (8, 1.4)]).overfitting
    assert (
        "lowest at step 4 (1.00) and rose to 1.40 by step 8" in said
        and "step 4 are kept" in said
        and "learn by heart" in said
    )
    assert "once only" in result([(8, 1.0)]).overfitting
