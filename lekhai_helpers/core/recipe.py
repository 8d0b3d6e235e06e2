"""Settings: recipe + profile + overrides, checked once and then frozen.

``resolve("lekhai", "cpu", {"sft.max_steps": 90})`` returns a `Settings`; ``settings.table()`` prints every
value with where it came from. Shown in the opening of every notebook.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import re
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from lekhai_helpers.core.known_pairs import KNOWN_PAIRS

UNMEASURED = "unmeasured"


class SettingsError(ValueError):
    """A recipe, a profile or an override says something that cannot be used; the text says what and where."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Model(_Section):
    """The base model and how it is held in memory."""

    name: str = Field(description="embedded, a folder, or a hub id")
    revision: str | None = None
    load_in_4bit: bool = False
    max_seq_length: int = Field(gt=0)
    device: Literal["cpu", "cuda"] = "cpu"


class Donor(_Section):
    """A parent of the merge: a model by name, or one made here from the base by a short LoRA training.

    Without a title there is none: a profile gives every recipe's donors their steps, also where nothing is merged.
    """

    title: str = ""
    name: str = "made-here"
    data: str | None = None
    steps: int = Field(0, ge=0)


class Merge(_Section):
    """How the two donors are blended (notebook 02)."""

    method: Literal["slerp", "linear", "task_arithmetic", "ties", "dare_ties", "dare_linear", "none"] = "slerp"
    language: Donor = Donor()  # type: ignore[call-arg]
    structure: Donor = Donor()  # type: ignore[call-arg]
    t: list[float] = Field(min_length=1, description="share of the structure donor: 0 is all language")
    t_by_module: dict[str, list[float]] = Field(
        default_factory=dict,
        description="slerp only: self_attn, mlp or layers (all of a layer) to its t from the first layer to the last",
    )
    density: float = Field(0.5, gt=0, le=1, description="ties and dare: share of each donor's changes that is kept")
    tokenizer: Literal["language", "union"] = Field("language", description="whose dictionary the merge has")
    learning_rate: float = Field(gt=0)
    batch_size: int = Field(gt=0)
    pairs: dict[str, list[str]] = Field(
        default_factory=lambda: dict(KNOWN_PAIRS), min_length=1, description="pairs worth knowing: name to two ids"
    )

    @model_validator(mode="after")
    def _two_donors(self) -> Merge:
        if self.method != "none" and not (self.language.title and self.structure.title):
            raise ValueError(
                "two donors with a title are needed, language and structure; without them set method to none"
            )
        return self


class Data(_Section):
    """The table of examples and how it is cut (notebook 03)."""

    file: str = Field(description="a file or folder, here or in data/; or a data set on a hub: owner/name")
    source: str
    contract: str
    group: str = Field(
        "group", description='the word for what rows are spread over: "industry", "subject" (column industry)'
    )
    unit: str = Field("answer", description='the word for the thing written: "script", "answer"')
    prompts: list[Literal["prompt_1", "prompt_2", "prompt_3"]] = Field(min_length=1)
    labelled: str | None = Field(
        None, description="prompts labelled by hand, on which the keyword guess of safety categories is measured"
    )
    max_seconds: int | None = Field(None, gt=0, description="longer films are left for larger models")
    validation_share: float = Field(gt=0, lt=0.5)
    test_share: float = Field(gt=0, lt=0.5)


class Lora(_Section):
    """What is trained on top of the frozen base (notebook 04)."""

    r: int = Field(gt=0)
    alpha: int = Field(gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: list[str] = Field(min_length=1)


class Sft(_Section):
    """Supervised fine-tuning (notebook 06)."""

    max_steps: int = Field(gt=0)
    learning_rate: float = Field(gt=0)
    batch_size: int = Field(gt=0)
    gradient_accumulation: int = Field(1, gt=0)
    warmup_share: float = Field(0.1, ge=0, lt=1)
    weight_decay: float = Field(0.01, ge=0)
    eval_every: int = Field(gt=0, description="steps between two looks at the validation rows; a checkpoint each time")
    checkpoint_minutes: float = Field(10.0, gt=0, description="a checkpoint also after so many minutes without one")
    keep: Literal["best", "contract", "last"] = Field(
        "best", description="weights of the lowest validation loss, of the most valid answers, or the last"
    )
    patience: int | None = Field(None, gt=0, description="stop after so many looks without a lower validation loss")
    packing: bool = Field(False, description="several rows in one sequence, only where attention keeps them apart")
    tracker: Literal["none", "tensorboard"] = Field("none", description="also write the curves for TensorBoard")
    processes: int = Field(1, gt=0, description="more than one: train under accelerate launch, a process a card")
    compare_lora: bool = Field(False, description="notebook 06 also trains the LoRA variants of its comparison")


class Dpo(_Section):
    """Preference alignment (notebook 10)."""

    method: Literal["dpo", "kto", "orpo"] = "dpo"
    loss: Literal["sigmoid", "ipo", "robust", "sigmoid_norm"] = "sigmoid"
    label_smoothing: float = Field(
        0.0, ge=0, lt=0.5, description="robust only: share of pairs taken to be the wrong way"
    )
    thumbs: str | None = Field(None, description="kto: a JSONL file of prompt, completion and label (thumb up or down)")
    pairs: int = Field(gt=0)
    planted_share: float = Field(ge=0, le=1, description="share of rejected sides with one planted defect")
    max_steps: int = Field(gt=0)
    learning_rate: float = Field(gt=0)
    batch_size: int = Field(gt=0)
    beta: float = Field(gt=0)
    sft_weight: float = Field(ge=0)


class Decoding(_Section):
    """How text is drawn from the model; the same for every stage, or the stages could not be compared."""

    temperature: float = Field(ge=0)
    top_p: float = Field(gt=0, le=1)
    repetition_penalty: float = Field(1.0, ge=1)
    max_new_tokens: int = Field(gt=0)
    batch_size: int = Field(gt=0)


class Evaluation(_Section):
    """The frozen briefs (notebooks 05, 07, 10, 12)."""

    briefs: str
    limit: int | None = Field(None, gt=0, description="only the first so many briefs")
    seeds: list[int] = Field(min_length=1)
    baseline_seeds: list[int] = Field(min_length=1)
    quant_seeds: list[int] = Field(min_length=1)
    tones: list[str] = Field(
        default_factory=list, description="the two tones of notebook 07's tone test; none: no tone test is made"
    )
    style_test: bool = Field(False, description="the answers have a writer: is the tuned voice nearer to it?")
    right_limit: int | None = Field(None, gt=0, description="only the first so many questions with one right answer")
    tone_request: str = Field("{prompt} Tone: {tone}.", description="how a tone is asked for in the tone test")

    @field_validator("tones")
    @classmethod
    def _two_tones(cls, tones: list[str]) -> list[str]:
        if tones and (len(tones) != 2 or len(set(tones)) != 2):
            raise ValueError("give two different tones for the tone test, or none")
        return tones


class JudgeWording(_Section):
    """How a language model is asked to grade and to compare, at length and in short words for a small one.

    Both gradings hold {rubric}, where the criteria go.
    """

    grading: str
    comparing: str
    short_grading: str
    short_comparing: str

    @field_validator("grading", "short_grading")
    @classmethod
    def _holds_the_rubric(cls, text: str) -> str:
        if "{rubric}" not in text:
            raise ValueError("write {rubric} where the criteria are to stand, or the judge is not told them")
        return text


class JudgeExamples(_Section):
    """What a small judge is shown before it is asked: one brief, and three answers to it."""

    brief: str
    good: str
    dull: str
    broken: str


class Judge(_Section):
    """The LLM judge (notebook 11); its address and key come from the environment, never from here."""

    model: str
    criteria: dict[str, str] = Field(min_length=1, description="name to rubric, with words for 1, 4, 7 and 10")
    outputs_per_stage: int = Field(20, gt=0)
    audit_file: str | None = Field(
        None, description="pairs with a known better side; none: faults are planted in the recipe's own examples"
    )
    wording: JudgeWording | None = Field(None, description="how a model is asked; none: plain words for any answer")
    examples: JudgeExamples | None = Field(
        None, description="what a small judge is shown; none: a good example of the recipe, and spoilt copies of it"
    )
    audit_pairs: int | None = Field(None, gt=0, description="pairs a local language model is audited on; none: all")
    local_texts: int = Field(20, gt=0, description="texts that a local language model grades on this profile")
    budget_usd: float | None = Field(None, gt=0, description="stop asking before this much is spent in one run")
    max_calls: int | None = Field(None, gt=0, description="stop asking after so many calls in one run")
    concurrency: int = Field(4, gt=0, description="calls at the same time")
    prices: dict[str, list[float]] = Field(
        default_factory=dict, description="model to US dollars per million tokens read and written"
    )

    @field_validator("prices")
    @classmethod
    def _two_prices(cls, prices: dict[str, list[float]]) -> dict[str, list[float]]:
        wrong = [name for name, price in prices.items() if len(price) != 2 or min(price) < 0]
        if wrong:
            raise ValueError(f"{', '.join(wrong)}: give two prices of 0 or more, for tokens read and tokens written")
        return prices


PROMPT_SETS = ("litmus", "alignment-instructions")  # what aqi.prompts may name instead of a file


class Aqi(_Section):
    """The Alignment Quality Index (notebook 11): do safe and unsafe prompts lie apart inside the model?"""

    prompts: str = Field(
        "aqi_prompts.jsonl",
        description="a JSONL file; or litmus, or alignment-instructions, from a hub; or litmus:FOLDER with its files",
    )
    per_side: int = Field(
        96, ge=8, description="safe prompts, and as many unsafe: a third teaches layer weights, the rest is measured on"
    )
    weight: float = Field(0.5, ge=0, le=1, description="the paper's lambda: share of 1/XBI, the rest is CHI")
    layers: list[int] | Literal["all"] = "all"
    bootstrap: int = Field(500, gt=0, description="resamples for the interval")
    permutations: int = Field(500, gt=0, description="shufflings for p")


class Export(_Section):
    """What is written for use elsewhere (notebooks 08 and 12)."""

    quantizations: list[Literal["f16", "q8_0", "q6_k", "q5_k_m", "q4_k_m"]] = Field(min_length=1)
    imatrix: bool = Field(False, description="measure on the training rows which columns to round most carefully")
    unseen: int = Field(12, ge=2, description="held-out texts by which the loss through rounding is measured, at most")
    hub_id: str | None = None
    licence: str
    base_licence: str


class Card(_Section):
    """What the model card says of a model that figures cannot (notebooks 08 and 12)."""

    about: str = Field("", description="what it writes, in a sentence")
    ask: str = Field("", description="what a request to it holds, in a few words")
    data: str = Field("", description="what its own data are; a user's own data are never described")
    tags: list[str] = Field(default_factory=list, description="words it is found by on a hub")
    not_for: list[str] = Field(default_factory=list, description="what it must not be used for, in sentences")


class Serving(_Section):
    """The service: what is asked for on its page, and how much it takes on (notebook 09)."""

    form: Literal["ad_script", "prompt"] = Field(
        "prompt", description="what an order holds: the fields of an advertisement, or one message to the model"
    )
    trials: list[str] = Field(
        default_factory=list, description="form prompt: messages that a new model must answer before it takes over"
    )
    history: str = Field(
        "scripts.db",
        pattern=r"^[\w-]+\.db$",
        description="file in the folder of runs where answers are kept; a recipe of its own has its own",
    )
    latency_goal_ms: float | None = Field(
        None, gt=0, description="wished time to the first token; notebook 12 sets it beside the measured one"
    )
    industries: list[str] = Field(default_factory=list, description="the page's first slider, in this order")
    tones: list[str] = Field(default_factory=list, description="the page's second slider, in this order")
    least_seconds: int = Field(10, ge=10, le=90, description="shortest film")
    usual_seconds: int = Field(30, ge=10, le=90, validate_default=True, description="length where none is asked for")
    most_seconds: int = Field(90, ge=10, le=90, validate_default=True, description="longest film")
    slots: int = Field(4, gt=0, description="requests the model answers at once; each has its own room for tokens")
    queue: int = Field(32, ge=0, description="requests that may wait for their turn; the next is sent away with 429")
    wait_seconds: float = Field(120, gt=0, description="longest wait for a turn")
    write_seconds: float = Field(300, gt=0, description="longest time one request may take the model")
    body_bytes: int = Field(65_536, gt=1000, description="largest request")
    origins: list[str] = Field(
        default_factory=list, description="pages elsewhere that may call, e.g. https://x.example"
    )
    check: Literal["text", "grammar", "unaided"] = Field(
        "unaided",
        description="what a new model must show before it takes over: any text; a sound answer within the grammar, "
        "where the contract has one; a sound answer in one of three tries without a grammar's help",
    )

    @field_validator("usual_seconds", "most_seconds")
    @classmethod
    def _lengths_in_order(cls, seconds: int, info: ValidationInfo) -> int:
        before = "least_seconds" if info.field_name == "usual_seconds" else "usual_seconds"
        if seconds < info.data.get(before, 0):
            raise ValueError(f"must not be below {before} ({info.data[before]})")
        return seconds


class Promise(_Section):
    """What a run takes on this profile; `unmeasured` where nobody has measured it."""

    minutes: float | Literal["unmeasured"]
    memory_gb: float | Literal["unmeasured"]
    disk_gb: float | Literal["unmeasured"]


class Settings(_Section):
    """Everything a run is made with. Frozen; unknown keys are refused."""

    recipe: str
    profile: str
    title: str
    language: str
    seed: int
    system_prompt: str
    model: Model
    merge: Merge
    data: Data
    lora: Lora
    sft: Sft
    dpo: Dpo
    decoding: Decoding
    evaluation: Evaluation
    judge: Judge
    aqi: Aqi = Aqi()  # type: ignore[call-arg]
    export: Export
    card: Card = Card()  # type: ignore[call-arg]
    serving: Serving = Serving()  # type: ignore[call-arg]
    promise: Promise
    _origin: dict[str, str] = PrivateAttr(default_factory=dict)

    @property
    def origin(self) -> dict[str, str]:
        """Where each value came from: dotted key to recipe, profile, override or default."""
        return dict(self._origin)

    def flat(self) -> dict[str, Any]:
        """Return the settings as dotted keys: {"sft.max_steps": 60, ...}."""
        return _flatten(self.model_dump(mode="json"))

    def table(self):
        """Return a pandas table of key, value and origin."""
        import pandas as pd

        rows = [(key, value, self._origin.get(key, "default")) for key, value in self.flat().items()]
        return pd.DataFrame(rows, columns=["setting", "value", "from"]).set_index("setting")

    def hash(self, *sections: str) -> str:
        """Return a SHA-256 of the named sections (all of them without a name): did anything change?"""
        chosen = {key: value for key, value in self.model_dump(mode="json").items() if not sections or key in sections}
        return hashlib.sha256(json.dumps(chosen, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def available(kind: Literal["recipes", "profiles"]) -> list[str]:
    """Return the names of the recipes or profiles that ship with the package."""
    folder = resources.files("lekhai_helpers") / kind
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def resolve(recipe: str, profile: str, overrides: dict[str, Any] | None = None) -> Settings:
    """Return the settings of a run, frozen and checked.

    The recipe comes first, then the profile, then what the recipe says about this profile
    (``by_profile``), then `overrides` with dotted keys. Raises SettingsError with the nearest right name.
    """
    recipe_tree = _load("recipes", recipe)
    by_profile = recipe_tree.pop("by_profile", {})
    tree: dict[str, Any] = {"recipe": recipe, "profile": profile}
    origin: dict[str, str] = {"recipe": "asked", "profile": "asked"}
    _merge(tree, recipe_tree, origin, "recipe")
    _merge(tree, _load("profiles", profile), origin, "profile")
    _merge(tree, by_profile.get(profile, {}), origin, f"recipe for {profile}")
    for key, value in (overrides or {}).items():
        _merge(tree, _nest(key, value), origin, "override")
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        raise SettingsError(_explain(error, tree, origin)) from None
    settings._origin.update(origin)
    return settings


def parse_override(text: str) -> tuple[str, Any]:
    """Read ``key=value`` from the command line; the value is YAML, and 2e-4 is a number."""
    key, separator, raw = text.partition("=")
    if not separator or not key.strip():
        raise SettingsError(f"{text!r} is not of the form key=value, for example sft.max_steps=90")
    value = yaml.safe_load(raw)
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = float(value)  # YAML 1.1 reads 2e-4 as text
    return key.strip(), value


def _load(kind: Literal["recipes", "profiles"], name: str) -> dict[str, Any]:
    if name not in available(kind):
        raise SettingsError(f"no {kind[:-1]} named {name!r}{_nearest(name, available(kind))}")
    text = (resources.files("lekhai_helpers") / kind / f"{name}.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text) or {}


def _merge(into: dict[str, Any], new: dict[str, Any], origin: dict[str, str], source: str, prefix: str = "") -> None:
    """Lay `new` over `into`, key by key, and note the source of every value."""
    for key, value in new.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value, origin, source, f"{path}.")
        else:
            into[key] = value
            for leaf in _flatten({path: value}) or {path: None}:
                origin[leaf] = source


def _nest(key: str, value: Any) -> dict[str, Any]:
    """Turn ("sft.max_steps", 9) into {"sft": {"max_steps": 9}}."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _known_keys(model: type[BaseModel] = Settings, prefix: str = "") -> list[str]:
    keys = []
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            keys += _known_keys(inner, f"{prefix}{name}.")
        else:
            keys.append(f"{prefix}{name}")
    return keys


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"


def _explain(error: ValidationError, tree: dict[str, Any], origin: dict[str, str]) -> str:
    """Say in one line each what is wrong, with the value, where it came from, and the nearest right name."""
    lines = ["The settings cannot be used:"]
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        where = _where(key, origin)
        if problem["type"] == "extra_forbidden":
            known = _known_keys() if "." in key else list(Settings.model_fields)
            lines.append(f"  {key} (from the {where}): there is no such setting{_nearest(key, known)}")
        elif problem["type"] == "missing":
            lines.append(f"  {key}: missing; recipe and profile together must give it")
        else:
            given = problem["input"]
            lines.append(f"  {key} = {given!r} (from the {where}): {problem['msg']}")
    return "\n".join(lines)


def _where(key: str, origin: dict[str, str]) -> str:
    """Return the origin of a key, of the list it stands in, or of what stands below it."""
    above = (name for name in origin if f"{key}.".startswith(f"{name}."))
    below = (name for name in origin if name.startswith(f"{key}."))
    return next((origin[name] for name in (*above, *below)), "?")


def data_folder() -> Path:
    """Return the project's ``data`` folder, beside the package or in the working folder."""
    for folder in (Path(__file__).parents[2] / "data", Path.cwd() / "data", Path.cwd().parent / "data"):
        if folder.is_dir():
            return folder
    raise FileNotFoundError("no data folder found: run from the project's folder, where README.md stands")


_HUB_SET = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*(@[\w./-]+)?")
_DATA_SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".txt", ".parquet")


def is_hub_set(name: str) -> bool:
    """Say whether a name can only be a data set's id on a hub, "owner/name" or "owner/name@revision": it has that form,
    it ends as no file of data does, and nothing of that name lies here or in the data folder.
    """
    looks_so = _HUB_SET.fullmatch(name) is not None and not name.lower().endswith(_DATA_SUFFIXES)
    return looks_so and not Path(name).exists() and not (data_folder() / name).exists()


def data_file(name: str) -> Path:
    """Return a file by its path, or by its name inside the data folder. Raises with the remedy if absent."""
    path = Path(name).expanduser()
    path = path if path.is_absolute() or path.exists() else data_folder() / name
    if not path.exists():
        raise FileNotFoundError(f"{name} was not found, neither as given nor in {data_folder().name}/")
    return path
