"""A real mergekit run over two tiny donors: every tensor there, the ends exact, what it leaves out repaired."""

import json

import pytest

from lekhai_helpers.learn.model import generate, load_model
from lekhai_helpers.prepare.merging import FROM_A_BASE, MergeError, merge_config, run_merge
from lekhai_helpers.prepare.model_facts import read_facts
from lekhai_helpers.prepare.preflight import check_mergeable


@pytest.fixture(scope="module")
def donors(new_model):
    """Two donors of one shape; the first has a list of end tokens, as chat models do."""
    language, structure = new_model(seed=1), new_model(seed=2)
    for name in ("config.json", "generation_config.json"):
        content = json.loads((language / name).read_text()) | {"eos_token_id": [1, 3]}
        (language / name).write_text(json.dumps(content))
    return language, structure


@pytest.fixture(scope="module")
def merge(settings):
    return settings.merge


@pytest.fixture(scope="module")
def merged(donors, merge, tmp_path_factory):
    """The merges by t."""
    folder = tmp_path_factory.mktemp("merges")
    configs = {t: merge_config("slerp", *donors, None, t, merge) for t in (0.0, 0.5, 1.0)}
    return {t: run_merge(config, folder / f"t{t:g}", donors[0]) for t, config in configs.items()}


def tensors(folder):
    from safetensors.torch import load_file

    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def test_the_donors_pass_the_preflight(donors):
    facts = [read_facts(donor, licence="gemma", parent="the base") for donor in donors]
    assert [check.what for check in check_mergeable(*facts) if check.verdict != "pass"] == []


def test_every_tensor_is_there_in_its_shape_and_finite(donors, merged):
    expected = {name: tensor.shape for name, tensor in tensors(donors[0]).items()}
    for folder in merged.values():
        found = tensors(folder)
        assert {name: tensor.shape for name, tensor in found.items()} == expected
        assert all(tensor.isfinite().all() for tensor in found.values())


@pytest.mark.parametrize(("t", "place"), [(0.0, 0), (1.0, 1)])
def test_at_its_ends_the_merge_is_one_donor(donors, merged, t, place):
    """A t that means the other donor would blend in the wrong direction and look like a bad merge."""
    import torch

    donor, found = tensors(donors[place]), tensors(merged[t])
    for name, tensor in found.items():
        torch.testing.assert_close(tensor.float(), donor[name].float(), rtol=0.008, atol=1e-6, msg=name)


def test_in_the_middle_it_lies_between_and_keeps_the_length(donors, merged):
    import torch

    first, second, middle = (
        tensors(folder)["model.layers.0.mlp.up_proj.weight"].float().flatten() for folder in (*donors, merged[0.5])
    )
    near = [float(torch.cosine_similarity(middle, donor, 0)) for donor in (first, second)]
    assert near[0] == pytest.approx(near[1], abs=0.02) and near[0] > 0.6
    assert float(middle.norm()) == pytest.approx(float(first.norm()), rel=0.02)


def test_end_tokens_generation_config_and_template_are_the_language_donors(donors, merged):
    """mergekit writes no generation_config.json with a tokenizer block, and shrinks the list of end tokens."""
    for folder in merged.values():
        for name in ("generation_config.json", "chat_template.jinja"):
            assert (folder / name).read_text() == (donors[0] / name).read_text()
        assert json.loads((folder / "config.json").read_text())["eos_token_id"] == [1, 3]


def test_the_configuration_stays_beside_the_merge(merged):
    assert "merge_method: slerp" in merged[0.5].with_name("t0.5.yaml").read_text()


def test_the_merge_loads_and_writes_what_its_donor_writes(donors, merged, settings, prompts):
    greedy = settings.decoding.model_copy(update={"temperature": 0.0})
    texts = [
        [answer.text for answer in generate(*load_model(folder, settings), prompts, greedy, 1)]
        for folder in (donors[0], merged[0.0], merged[0.5])
    ]
    assert texts[0] == texts[1] and all(texts[2])


@pytest.mark.parametrize("method", ["linear", *FROM_A_BASE])
def test_every_method_gives_a_whole_model_that_is_neither_donor(method, donors, merge, tiny, tmp_path):
    config = merge_config(method, *donors, tiny, 0.5, merge)
    found = tensors(run_merge(config, tmp_path / "merged", donors[0], seed=1))
    first, second = (tensors(donor) for donor in donors)
    assert {name: tensor.shape for name, tensor in found.items()} == {name: t.shape for name, t in first.items()}
    assert all(tensor.isfinite().all() for tensor in found.values())
    name = "model.layers.0.mlp.up_proj.weight"
    assert not any(found[name].equal(donor[name]) for donor in (first, second))


@pytest.mark.parametrize(("method", "place"), [("linear", 0), ("linear", 1), ("task_arithmetic", 0), ("ties", 1)])
def test_at_its_ends_every_exact_method_is_one_donor(method, place, donors, merge, tiny, tmp_path):
    """A weight given to the wrong donor would turn the whole sweep around."""
    import torch

    whole = merge.model_copy(update={"density": 1.0})
    found = tensors(run_merge(merge_config(method, *donors, tiny, float(place), whole), tmp_path / "m", donors[0]))
    donor = tensors(donors[place])
    for name, tensor in found.items():
        torch.testing.assert_close(tensor.float(), donor[name].float(), rtol=0.02, atol=4e-3, msg=name)


def test_dare_drops_the_same_changes_with_the_same_seed(donors, merge, tiny, tmp_path):
    config = merge_config("dare_linear", *donors, tiny, 0.5, merge)
    name = "model.layers.0.mlp.up_proj.weight"
    one, again, other = (
        tensors(run_merge(config, tmp_path / f"m{n}", donors[0], seed=seed))[name] for n, seed in enumerate((1, 1, 2))
    )
    assert one.equal(again) and not one.equal(other)


def test_each_module_gets_its_own_share_from_the_first_layer_to_the_last(donors, merge, tmp_path):
    """Attention goes from all language to all structure, the MLP the other way round."""
    import torch

    by_module = merge.model_copy(update={"t_by_module": {"self_attn": [0.0, 1.0], "mlp": [1.0, 0.0]}})
    found = tensors(run_merge(merge_config("slerp", *donors, None, 0.5, by_module), tmp_path / "m", donors[0]))
    first, second = (tensors(donor) for donor in donors)
    for name, donor in (
        ("layers.0.self_attn.q_proj", first),
        ("layers.1.self_attn.q_proj", second),
        ("layers.0.mlp.up_proj", second),
        ("layers.1.mlp.up_proj", first),
    ):
        weight = f"model.{name}.weight"
        torch.testing.assert_close(found[weight].float(), donor[weight].float(), rtol=0.008, atol=1e-6, msg=name)
    embedding = found["model.embed_tokens.weight"].float()
    assert not any(torch.allclose(embedding, donor["model.embed_tokens.weight"].float()) for donor in (first, second))


def test_each_layer_gets_its_own_share_whatever_the_module(donors, merge, tmp_path):
    """The first layer is all language, the last all structure; what stands in no layer takes t."""
    import torch

    by_layer = merge.model_copy(update={"t_by_module": {"layers": [0.0, 1.0]}})
    found = tensors(run_merge(merge_config("slerp", *donors, None, 0.5, by_layer), tmp_path / "m", donors[0]))
    owners = {f"model.layers.{number}.": tensors(donor) for number, donor in enumerate(donors)}
    compared = [(name, start) for name in found for start in owners if name.startswith(start)]
    assert len(compared) > 20
    for name, start in compared:
        torch.testing.assert_close(found[name].float(), owners[start][name].float(), rtol=0.008, atol=1e-6, msg=name)
    embedding = found["model.embed_tokens.weight"].float()
    near = [
        float(torch.cosine_similarity(embedding.flatten(), donor["model.embed_tokens.weight"].float().flatten(), 0))
        for donor in owners.values()
    ]
    assert near[0] == pytest.approx(near[1], abs=0.02) and near[0] < 0.95


@pytest.fixture
def smaller(engine, make_tokenizer, write_model, tmp_path):
    """A donor of the same shapes whose dictionary lacks some pieces."""
    return write_model(tmp_path / "smaller", 3, make_tokenizer(325))


def test_a_merge_that_loses_a_piece_is_refused(donors, smaller, merge, tmp_path):
    """Everything made for the language donor would be cut wrongly from then on."""
    config = merge_config("slerp", *donors, None, 0.5, merge) | {"tokenizer": {"source": str(smaller)}}
    with pytest.raises(MergeError, match="the merge changed the dictionary"):
        run_merge(config, tmp_path / "merged", donors[0])


def test_a_donor_with_another_dictionary_is_put_in_the_language_donors_order(donors, smaller, merge, tmp_path):
    config = merge_config("slerp", donors[0], smaller, None, 0.5, merge)
    found = tensors(run_merge(config, tmp_path / "merged", donors[0]))
    expected = {name: tensor.shape for name, tensor in tensors(donors[0]).items()}
    assert {name: tensor.shape for name, tensor in found.items()} == expected
