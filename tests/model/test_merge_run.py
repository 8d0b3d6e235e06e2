"""A real mergekit run over two tiny donors: every tensor there, the ends exact, what it leaves out repaired."""

import json

import pytest

from lekhai_helpers.learn.model import generate, load_model
from lekhai_helpers.prepare.merging import MergeError, blocks, check_mergeable, read_config, run_merge, slerp_config


@pytest.fixture(scope="module")
def donors(new_model):
    """Two donors of one shape; the first has a list of end tokens, as chat models do."""
    language, structure = new_model(seed=1), new_model(seed=2)
    for name in ("config.json", "generation_config.json"):
        content = json.loads((language / name).read_text()) | {"eos_token_id": [1, 3]}
        (language / name).write_text(json.dumps(content))
    return language, structure


@pytest.fixture(scope="module")
def merged(donors, tmp_path_factory):
    """The merges by t."""
    folder = tmp_path_factory.mktemp("merges")
    return {t: run_merge(slerp_config(*donors, t), folder / f"t{t:g}") for t in (0.0, 0.5, 1.0)}


def tensors(folder):
    from safetensors.torch import load_file

    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def test_the_donors_pass_the_preflight(donors):
    assert blocks(check_mergeable(*(read_config(donor) for donor in donors))) == []


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


@pytest.fixture
def smaller(engine, make_tokenizer, write_model, tmp_path):
    """A donor of the same shapes whose dictionary lacks some pieces."""
    return write_model(tmp_path / "smaller", 3, make_tokenizer(325))


def test_a_merge_that_changes_the_dictionary_is_refused(donors, smaller, tmp_path):
    """The new ids would mean other pieces, and everything made for the language donor would be cut wrongly."""
    config = slerp_config(smaller, donors[1], 0.5) | {"tokenizer": {"source": "union"}}
    with pytest.raises(MergeError, match="the merge changed the dictionary"):
        run_merge(config, tmp_path / "merged")


def test_a_donor_with_another_dictionary_is_put_in_the_language_donors_order(donors, smaller, tmp_path):
    folder = run_merge(slerp_config(donors[0], smaller, 0.5), tmp_path / "merged")
    expected = {name: tensor.shape for name, tensor in tensors(donors[0]).items()}
    assert {name: tensor.shape for name, tensor in tensors(folder).items()} == expected
