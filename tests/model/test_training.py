"""Supervised fine-tuning with real Unsloth and TRL on a tiny model: it learns, only what it should, and again."""

import re

import pytest

from lekhai_helpers.core.ledger import Ledger
from lekhai_helpers.learn.callbacks import TrainingError
from lekhai_helpers.learn.checkpoints import what_is_broken
from lekhai_helpers.learn.donors import short_lora_training
from lekhai_helpers.learn.model import attach_lora, load_model
from lekhai_helpers.learn.training import TrainingResult, train_sft


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
    assert first.steps == 8 and first.tokens_per_second > 0 and not first.out_of_patience
    assert first.train_loss[-1][1] < first.train_loss[0][1] - 0.3
    assert [step for step, _ in first.validation_loss] == [4, 8]
    assert first.validation_before > first.validation_loss[0][1], "the loss before the first step"
    assert first.kept_step == min(first.validation_loss, key=lambda pair: pair[1])[0]
    table = ledger.metrics("06_fine_tuning")
    in_ledger = table[table["name"] == "loss"]
    assert list(zip(in_ledger["step"], in_ledger["value"], strict=True)) == first.train_loss
    assert set(table["name"]) >= {"loss", "eval_loss", "learning_rate", "grad_norm", "memory_mb"}
    speeds = table.loc[table["name"] == "tokens_per_second", "value"]
    assert len(speeds) == 7 and (speeds > 0).all(), "one for every logged step but the first"
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
    assert "going on from step 4" in said and "step    5 of 8" in said and "step    4 of 8" not in said


def cut(path, keep):
    path.write_bytes(path.read_bytes()[:keep])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda place: cut(place / "adapter_model.safetensors", 3000), "adapter_model.safetensors is missing or cut"),
        (lambda place: cut(place / "optimizer.pt", 3000), "optimizer.pt is missing or cut"),
        (lambda place: (place / "rng_state.pth").unlink(), "rng_state.pth is missing or cut"),
        (lambda place: (place / "scaler.pt").write_bytes(b"half"), "scaler.pt is missing or cut"),
        (lambda place: cut(place / "trainer_state.json", 50), "trainer_state.json is missing or cut"),
    ],
)
def test_a_checkpoint_that_is_not_whole_is_passed_over(
    fresh, examples, settings, tmp_path, capsys, monkeypatch, spoil, words
):
    """A Drive that was not done copying leaves a checkpoint that looks like one; the one before it still counts."""
    often = with_steps(settings, eval_every=2)
    folder = tmp_path / "a"
    whole = train(fresh, examples, often, folder)
    assert what_is_broken(folder / "checkpoint-6") is None
    (folder / "checkpoint-8").rename(folder / "checkpoint-7")  # as if it had been killed just after step 7
    spoil(folder / "checkpoint-7")
    capsys.readouterr()
    again = train(fresh, examples, often, folder)
    said = capsys.readouterr().out
    assert again.train_loss == whole.train_loss
    assert "the checkpoint of step 7 is passed over" in said and "going on from step 6" in said
    assert re.search(words, said)


def test_a_checkpoint_is_written_after_so_many_minutes(fresh, examples, settings, tmp_path):
    """On a slow machine an hour can lie between two looks at the validation rows."""
    train(fresh, examples, with_steps(settings, checkpoint_minutes=60.0, max_steps=3, eval_every=8), tmp_path / "slow")
    train(fresh, examples, with_steps(settings, checkpoint_minutes=1e-9, max_steps=3, eval_every=8), tmp_path / "fast")
    found = {name: sorted(path.name for path in (tmp_path / name).glob("checkpoint-*")) for name in ("slow", "fast")}
    assert found["slow"] == ["checkpoint-3"] and found["fast"] == ["checkpoint-2", "checkpoint-3"]


def test_the_weights_of_the_most_valid_answers_are_kept(fresh, examples, settings, tmp_path, ledger):
    """The validation loss is lowest elsewhere; the score decides, and of equal scores the later look."""
    scores = iter([0.25, 0.75, 0.75, 0.5])
    seen = []

    def score(model, tokenizer):
        seen.append({name: p.detach().clone() for name, p in model.named_parameters() if "lora_" in name})
        return next(scores)

    often = with_steps(settings, keep="contract", eval_every=2)
    model, tokenizer = fresh()
    result = train_sft(
        model, tokenizer, examples[:8], examples[8:10], often, tmp_path / "a", score=score, ledger=ledger
    )
    assert result.valid_answers == [(2, 0.25), (4, 0.75), (6, 0.75), (8, 0.5)] and result.kept_step == 6
    assert dict(result.validation_loss)[8] < dict(result.validation_loss)[6]
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            assert parameter.equal(seen[2][name]) and not parameter.equal(seen[3][name])
    table = ledger.metrics("06_fine_tuning")
    assert list(table.loc[table["name"] == "eval_valid_answers", "value"]) == [0.25, 0.75, 0.75, 0.5]


def test_taking_the_score_does_not_change_the_training(fresh, examples, settings, tmp_path):
    """A score throws dice and switches the model to writing; both must be put back."""
    import torch

    def score(model, tokenizer):
        model.eval()
        return float(torch.rand(1)) * 0

    dropout = settings.model_copy(update={"lora": settings.lora.model_copy(update={"dropout": 0.5})})
    without = train(fresh, examples, dropout, tmp_path / "a")
    scored = train(fresh, examples, with_steps(dropout, keep="contract"), tmp_path / "b", score=score)
    assert scored.train_loss == without.train_loss


def test_keeping_by_contract_needs_a_score(fresh, examples, settings, tmp_path):
    with pytest.raises(TrainingError, match="no score was given"):
        train(fresh, examples, with_steps(settings, keep="contract"), tmp_path / "a")


@pytest.fixture
def other_rows(examples):
    """Validation rows of another world: the more is learned from the scripts, the worse these are foretold."""
    answer = [{"role": "assistant", "content": "XQZ 7391 JKW 8264"}]
    return [example | {"completion": answer} for example in examples[8:10]]


def test_of_equally_many_valid_answers_the_later_look_decides(fresh, examples, settings, tmp_path):
    """Where no look finds a valid answer, the first look would win a draw, with the least learned."""
    often = with_steps(settings, keep="contract", eval_every=2)
    result = train(fresh, examples, often, tmp_path / "a", score=lambda model, tokenizer: 0.0)
    assert result.kept_step == 8


def test_patience_counts_the_validation_loss_whatever_is_kept(fresh, examples, other_rows, settings, tmp_path):
    patient = with_steps(settings, max_steps=12, eval_every=1, patience=2, keep="contract")
    result = train_sft(*fresh(), examples[:8], other_rows, patient, tmp_path / "a", score=lambda model, tokenizer: 0.5)
    assert result.steps < 12


def test_a_training_that_stopped_early_is_not_driven_on(fresh, examples, other_rows, settings, tmp_path):
    """The notebook may fail after it; run again, the training must end where it ended."""
    patient = with_steps(settings, max_steps=12, eval_every=1, patience=2)
    whole = train_sft(*fresh(), examples[:8], other_rows, patient, tmp_path / "a")
    again = train_sft(*fresh(), examples[:8], other_rows, patient, tmp_path / "a")
    assert (again.steps, again.kept_step) == (whole.steps, whole.kept_step)
    assert again.validation_before == whole.validation_before


def test_the_training_stops_early_where_the_validation_loss_rises(fresh, examples, other_rows, settings, tmp_path):
    """The weights from before the rise are the ones that are kept."""
    patient = with_steps(settings, max_steps=12, eval_every=1, patience=2)
    result = train_sft(*fresh(), examples[:8], other_rows, patient, tmp_path / "a")
    best = min(result.validation_loss, key=lambda pair: pair[1])[0]
    assert result.kept_step == best and result.steps == best + 2 < 12 == result.planned
    assert result.out_of_patience


def test_patience_survives_a_resume(fresh, examples, other_rows, settings, tmp_path):
    """A counter that begins anew with every disconnect never comes to its end."""
    patient = with_steps(settings, max_steps=12, eval_every=1, patience=2)
    whole = train_sft(*fresh(), examples[:8], other_rows, patient, tmp_path / "a")
    newest = max((tmp_path / "a").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    (newest / "trainer_state.json").unlink()
    again = train_sft(*fresh(), examples[:8], other_rows, patient, tmp_path / "a")
    assert (again.steps, again.kept_step) == (whole.steps, whole.kept_step)


def test_the_curves_are_also_written_for_tensorboard(fresh, examples, settings, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = train(fresh, examples, with_steps(settings, tracker="tensorboard"), tmp_path / "a")
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    losses = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert [step for step, _ in losses] == [step for step, _ in result.train_loss]
    assert [loss for _, loss in losses] == pytest.approx([loss for _, loss in result.train_loss], rel=1e-5)


def test_packing_that_would_not_happen_is_refused_too(fresh, examples, settings, tmp_path):
    """On a processor the engine switches packing off and trains on; the user would believe that it had packed."""
    with pytest.raises(TrainingError, match="Unsloth packs no rows on this device"):
        train(fresh, examples, with_steps(settings, packing=True), tmp_path / "a")


def test_packing_is_refused_where_rows_would_read_each_other(fresh, examples, settings, tmp_path, monkeypatch):
    import lekhai_helpers.learn.training as training

    monkeypatch.setattr(training, "rows_kept_apart", lambda model, tokenizer: (False, "row 2 reads row 1"))
    with pytest.raises(TrainingError, match="sft.packing would mix the rows: row 2 reads row 1; set sft.packing=false"):
        train(fresh, examples, with_steps(settings, packing=True), tmp_path / "a")


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


def test_settings_that_change_no_weight_keep_the_checkpoints(fresh, examples, settings, tmp_path, capsys):
    quick = with_steps(settings, max_steps=4, eval_every=2)
    train(fresh, examples, quick, tmp_path / "a")
    assert "put aside" not in capsys.readouterr().out, "there was nothing to put aside"
    train(fresh, examples, with_steps(quick, tracker="tensorboard", compare_lora=True), tmp_path / "a")
    assert "going on from step 2" in capsys.readouterr().out
    train(fresh, examples, with_steps(quick, weight_decay=0.5), tmp_path / "a")
    assert "put aside, beginning anew" in capsys.readouterr().out
    assert (tmp_path / "a.previous" / "checkpoint-2").exists()


def test_three_gradients_that_are_not_finite_stop_the_training(fresh, examples, settings, tmp_path, ledger):
    """A training that has lost its numbers runs to the end without an error and leaves a ruined model."""
    import torch

    model, tokenizer = fresh()
    with torch.no_grad():
        next(p for name, p in model.named_parameters() if ".lora_A." in name).fill_(float("nan"))
    with pytest.raises(TrainingError, match="three times in a row, at step 3: lower sft.learning_rate"):
        train_sft(model, tokenizer, examples[:8], examples[8:10], settings, tmp_path / "a", ledger=ledger)
    assert ledger.metrics("06_fine_tuning")["step"].max() == 2, "the third step's gradient must not be applied"


def test_two_gradients_that_are_not_finite_in_a_row_are_forgiven():
    """In 16 bits a single overflow is ordinary; only three in a row say that nothing more will come."""
    import types

    import torch

    from lekhai_helpers.learn.callbacks import stop_on_broken_gradient

    watch, model = stop_on_broken_gradient(), torch.nn.Linear(1, 1)

    def step(value, fp16=False, number=20):
        model.weight.grad = torch.full((1, 1), value)
        watch.on_pre_optimizer_step(
            types.SimpleNamespace(fp16=fp16), types.SimpleNamespace(global_step=number), None, model=model
        )

    for value in (float("nan"), float("inf"), 1.0, float("nan"), float("nan"), 1.0):
        step(value)
    for _ in range(8):
        step(float("inf"), fp16=True, number=3)
    step(float("nan"))
    step(float("nan"))
    with pytest.raises(TrainingError, match="at step 21"):
        step(float("nan"))


def test_the_donors_short_training_learns_plain_text_and_outlines(fresh, examples, settings, tmp_path):
    text = [example["completion"][0]["content"] for example in examples]
    fast = settings.model_copy(update={"merge": settings.merge.model_copy(update={"learning_rate": 1e-2})})
    for rows in (text, examples):
        losses = short_lora_training(*fresh(), rows, fast, 6, tmp_path / "donor")
        assert [step for step, _ in losses] == [1, 2, 3, 4, 5, 6]
        assert losses[-1][1] < losses[0][1] - 0.2


def result(validation, best_step=4):
    return TrainingResult([(1, 3.0), (8, 0.5)], validation, best_step, 8, 1.0, 1.0, [], 8, 4.0)


def test_overfitting_is_said_in_words():
    assert "no sign of overfitting" in result([(4, 1.0), (8, 1.005)]).overfitting
    said = result([(4, 1.0), (8, 1.4)]).overfitting
    assert (
        "lowest at step 4 (1.00) and rose to 1.40 by step 8" in said
        and "step 4 are kept" in said
        and "learn by heart" in said
    )
    assert "once only" in result([(8, 1.0)]).overfitting


def test_the_validation_gap_is_that_of_the_kept_step():
    assert result([(4, 1.0), (8, 1.4)], best_step=8).validation_gap == pytest.approx(0.9)
    assert result([(1, 3.5), (8, 1.4)], best_step=1).validation_gap == pytest.approx(0.5)
