"""Every keyword we pass to trl, peft, transformers, unsloth and mergekit exists in the pinned version.

Libraries of this field rename arguments between minor versions, and some only warn about a name they do not know:
a training then runs with a default nobody chose. Read from the source text, so nothing here trains or loads.
"""

import ast
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted([*(ROOT / "lekhai_helpers").rglob("*.py"), *(ROOT / "notebooks" / "src").glob("*.py")])
UNSLOTH = ("FastLanguageModel", "engine", "unsloth_engine()", "unsloth.FastLanguageModel")

TRL = [f"{method}{part}" for method in ("SFT", "DPO", "KTO", "ORPO") for part in ("Config", "Trainer")]

# trl must not be imported into the tests' own process: unsloth patches it, and has to come first.
ASK_THE_LIBRARIES = """
import dataclasses, inspect, json, re
import mergekit.options, peft, transformers, trl
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

def parameters(function):
    return [p.name for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]

def popped(function):
    return re.findall(r"kwargs\\.(?:pop|get)\\(\\s*[\\"'](\\w+)", inspect.getsource(function))

def fields(cls):
    return [field.name for field in dataclasses.fields(cls) if field.init]

auto, real = transformers.AutoModelForCausalLM.from_pretrained, transformers.PreTrainedModel.from_pretrained
print(json.dumps({
    "SFTConfig": fields(trl.SFTConfig),
    "DPOConfig": fields(trl.DPOConfig),
    "SFTTrainer": parameters(trl.SFTTrainer.__init__),
    "DPOTrainer": parameters(trl.DPOTrainer.__init__),
    "KTOConfig": fields(trl.KTOConfig),
    "KTOTrainer": parameters(trl.KTOTrainer.__init__),
    "ORPOConfig": fields(ORPOConfig),
    "ORPOTrainer": parameters(ORPOTrainer.__init__),
    "LoraConfig": fields(peft.LoraConfig),
    "peft.get_peft_model": parameters(peft.get_peft_model),
    "MergeOptions": list(mergekit.options.MergeOptions.model_fields),
    "AutoModelForCausalLM.from_pretrained": [*parameters(auto), *popped(auto), *parameters(real), *popped(real)],
}))
"""


@pytest.fixture(scope="session")
def known() -> dict[str, set[str]]:
    """What each watched callable accepts, in the versions that are installed."""
    answer = subprocess.run([sys.executable, "-c", ASK_THE_LIBRARIES], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    accepted = {name: set(names) for name, names in json.loads(answer.stdout.splitlines()[-1]).items()}
    return accepted | {
        "FastLanguageModel.from_pretrained": unsloth_parameters("loader", "FastLanguageModel", "from_pretrained"),
        # Gemma 3 goes the second way: a keyword has to be known on both
        "FastLanguageModel.get_peft_model": unsloth_parameters("llama", "FastLlamaModel", "get_peft_model")
        & unsloth_parameters("vision", "FastBaseModel", "get_peft_model"),
    }


def unsloth_parameters(module: str, class_name: str, method: str) -> set[str]:
    """Read a signature from unsloth's source: importing it takes nine seconds."""
    spec = importlib.util.find_spec("unsloth")
    assert spec and spec.submodule_search_locations, "unsloth is not installed: run `bash colab_setup.sh`"
    path = Path(next(iter(spec.submodule_search_locations))) / "models" / f"{module}.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    the_class = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == class_name)
    function = next(n for n in the_class.body if isinstance(n, ast.FunctionDef) and n.name == method)
    return {argument.arg for argument in [*function.args.args, *function.args.kwonlyargs]}


def watched_name(call: ast.Call) -> str | None:
    """Say which watched callable a call goes to, by the name it is written with."""
    function = call.func
    owner = ast.unparse(function.value) if isinstance(function, ast.Attribute) else ""
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    if isinstance(function, ast.Call) and getattr(function.func, "id", "") == "_trainer_class":
        return "SFTTrainer"  # ours adds a method or two to it, and is called the same
    if name in TRL or name in ("LoraConfig", "MergeOptions"):
        return name
    if name in ("from_pretrained", "get_peft_model") and owner in UNSLOTH:
        return f"FastLanguageModel.{name}"
    if name == "get_peft_model" and owner in ("", "peft"):
        return "peft.get_peft_model"
    if name == "from_pretrained" and owner.split(".")[-1] == "AutoModelForCausalLM":
        return "AutoModelForCausalLM.from_pretrained"
    return None


def keywords(call: ast.Call, tree: ast.Module) -> list[str]:
    """Return the keywords of a call, those inside ``**something`` too. Raises LookupError where they cannot be seen."""
    names = []
    for keyword in call.keywords:
        names += [keyword.arg] if keyword.arg else keys_of(keyword.value, tree)
    return names


def keys_of(value: ast.expr, tree: ast.Module) -> list[str]:
    """Return the keys of a dict, followed through names, functions of the module, dict(...) and unions."""
    if isinstance(value, ast.Dict):
        own = [key.value for key in value.keys if isinstance(key, ast.Constant)]
        inner = [v for k, v in zip(value.keys, value.values, strict=True) if k is None]
        return own + [name for part in inner for name in keys_of(part, tree)]
    if isinstance(value, ast.BinOp):
        return keys_of(value.left, tree) + keys_of(value.right, tree)
    if isinstance(value, ast.IfExp):
        return keys_of(value.body, tree) + keys_of(value.orelse, tree)
    if isinstance(value, ast.Call) and getattr(value.func, "id", "") == "dict":
        return keywords(value, tree)
    found = definitions(value, tree)
    if not found:
        raise LookupError(ast.unparse(value))
    return [name for part in found for name in keys_of(part, tree)]


def definitions(value: ast.expr, tree: ast.Module) -> list[ast.expr]:
    """Return what a name is assigned, or what a function of this module returns."""
    found: list[ast.expr] = []
    for node in ast.walk(tree):
        if isinstance(value, ast.Name) and isinstance(node, ast.Assign):
            found += [node.value for target in node.targets if getattr(target, "id", "") == value.id]
        called = isinstance(value, ast.Call) and isinstance(node, ast.FunctionDef)
        if called and node.name == getattr(value.func, "id", ""):
            found += [inner.value for inner in ast.walk(node) if isinstance(inner, ast.Return) and inner.value]
    return found


def watched_calls(path: Path) -> list[tuple[str, ast.Call, ast.Module]]:
    lines = path.read_text(encoding="utf-8").splitlines()
    tree = ast.parse("\n".join("" if line.startswith(("!", "%")) else line for line in lines))
    calls = [(watched_name(node), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [(name, call, tree) for name, call in calls if name]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_keyword_exists_in_the_pinned_version(path, known):
    """max_seq_length, tokenizer= and torch_dtype= were all right once; each was renamed under working code."""
    unknown = []
    for name, call, tree in watched_calls(path):
        try:
            given = keywords(call, tree)
        except LookupError as hidden:
            pytest.fail(f"line {call.lineno}: the keywords of {name}(**{hidden}) cannot be read; write them out")
        unknown += [f"line {call.lineno}: {name}({keyword}=)" for keyword in given if keyword not in known[name]]
    assert not unknown, "no such keyword: " + "; ".join(unknown)


def test_the_training_calls_are_found_at_all():
    """A drift test that looks for calls by name passes on nothing when the calls move behind another name."""
    found = {name for path in SOURCES for name, _, _ in watched_calls(path)}
    assert set(TRL) <= found
    own = [name for name, _, _ in watched_calls(ROOT / "lekhai_helpers" / "learn" / "training.py")]
    assert "SFTTrainer" in own, "the class made there is not recognised as a trainer"


def test_an_old_keyword_is_noticed(known):
    assert {"max_length", "completion_only_loss"} <= known["SFTConfig"]
    assert "max_seq_length" not in known["SFTConfig"]
    assert "processing_class" in known["SFTTrainer"] and "tokenizer" not in known["SFTTrainer"]
    assert {"beta", "loss_type", "loss_weights"} <= known["DPOConfig"]


def test_keywords_are_followed_through_dicts_and_helper_functions():
    tree = ast.parse(
        "def common(s):\n    return {'seed': 1} | dict(a=2)\nextra = {'b': 3}\nSFTConfig(c=4, **common(s), **extra)"
    )
    call = next(n for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "SFTConfig")
    assert keywords(call, tree) == ["c", "seed", "a", "b"]
