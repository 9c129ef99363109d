"""No code of a model's repository runs, wherever the repository says that there is some."""

from __future__ import annotations

import ast
import builtins
import json
import shutil
from pathlib import Path

import pytest

import interp
from interp.errors import CotlensError
from interp.loading.load import random_init

ROOT = Path(__file__).parents[3]
MAKERS = ("from_pretrained", "from_config")
CODE = """
from pathlib import Path

Path({mark!r}).touch()

from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast


class OwnConfig(LlamaConfig):
    model_type = "own"


class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig


class OwnTokenizer(PreTrainedTokenizerFast):
    pass
"""


@pytest.fixture
def asked_questions(monkeypatch):
    """Questions on the terminal, which are answered "y", as a user in a hurry does."""
    questions = []

    def answer(question=""):
        questions.append(question)
        return "y"

    monkeypatch.setattr(builtins, "input", answer)
    return questions


@pytest.fixture
def with_code(model_folder, tmp_path):
    """Return a function that makes a copy of a model with code in it, and the file that the code would write."""

    def make(*parts: str, model_type: str = "llama"):
        folder, mark = Path(shutil.copytree(model_folder("llama"), tmp_path / "repository")), tmp_path / "code-ran"
        (folder / "own.py").write_text(CODE.format(mark=str(mark)), encoding="utf-8")
        classes = {
            "AutoConfig": "own.OwnConfig",
            "AutoModelForCausalLM": "own.OwnModel",
            "AutoTokenizer": ["own.OwnTokenizer", "own.OwnTokenizer"],
        }
        files = {"AutoTokenizer": "tokenizer_config.json"}
        for part in parts:
            path = folder / files.get(part, "config.json")
            content = json.loads(path.read_text(encoding="utf-8"))
            content.setdefault("auto_map", {})[part] = classes[part]
            if part == "AutoConfig":
                content["model_type"] = model_type
            if part == "AutoTokenizer":
                content["tokenizer_class"] = "OwnTokenizer"
            path.write_text(json.dumps(content), encoding="utf-8")
        return folder, mark

    return make


@pytest.mark.parametrize(
    "parts", [("AutoModelForCausalLM",), ("AutoConfig", "AutoModelForCausalLM"), ("AutoConfig",)], ids="+".join
)
def test_an_architecture_that_transformers_knows_runs_its_own_code(parts, with_code, asked_questions, model_folder):
    folder, mark = with_code(*parts)
    reasoner = interp.load(folder)
    assert reasoner.weights == interp.load(model_folder("llama")).weights
    random_init(reasoner)
    assert not mark.exists() and asked_questions == []


def test_an_unknown_architecture_is_refused(with_code, asked_questions):
    folder, mark = with_code("AutoConfig", "AutoModelForCausalLM", model_type="own")
    with pytest.raises(CotlensError, match="Code in a model's repository is never run") as refused:
        interp.load(folder)
    assert "\n" not in str(refused.value)
    assert not mark.exists() and asked_questions == []


def test_code_of_a_tokenizer_does_not_run(with_code, asked_questions):
    folder, mark = with_code("AutoTokenizer")
    try:
        interp.load(folder)
    except CotlensError as error:
        assert "Code in a model's repository is never run" in str(error)
    assert not mark.exists() and asked_questions == []


def test_a_bare_state_dict_runs_no_code_of_its_base(with_code, asked_questions, tmp_path):
    from safetensors.torch import load_file, save_file

    from interp.models.markers import COCONUT_TOKENS

    folder, mark = with_code("AutoConfig", "AutoModelForCausalLM", "AutoTokenizer")
    state = {f"base_causallm.{k}": v for k, v in load_file(folder / "model.safetensors").items()}
    embedding = state["base_causallm.model.embed_tokens.weight"]
    for name in ("model.embed_tokens", "lm_head"):
        own = state[f"base_causallm.{name}.weight"]
        state[f"base_causallm.{name}.weight"] = own.new_zeros(len(own) + len(COCONUT_TOKENS), own.shape[1])
    save_file(state, tmp_path / "checkpoint.safetensors")
    try:
        reasoner = interp.load(tmp_path / "checkpoint.safetensors", base=folder)
        assert len(reasoner.embed.weight) == len(embedding) + len(COCONUT_TOKENS)
    except CotlensError as error:
        assert "no tokenizer" in str(error)
    assert not mark.exists() and asked_questions == []


def calls():
    """Yield (file, line, what it is called on, keywords) of each call in the source that makes a part of a model."""
    for package in ("interp", "probes", "dashboards", "cotlens", "benchmarks"):
        for file in (ROOT / package).rglob("*.py"):
            text = file.read_text(encoding="utf-8")
            for node in ast.walk(ast.parse(text)) if any(f".{name}(" in text for name in MAKERS) else ():
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MAKERS:
                    keywords = {keyword.arg: keyword.value for keyword in node.keywords}
                    yield file.relative_to(ROOT), node.lineno, ast.unparse(node.func.value), keywords


def test_every_call_says_that_no_code_is_trusted():
    """SAELens's registry holds weights alone; its `from_pretrained` has no such option."""
    of_transformers = [call for call in calls() if call[2] != "SAE"]
    assert len(of_transformers) > 5, "the source reads models in several places"
    trusting = [
        f"{file}:{line}"
        for file, line, _, keywords in of_transformers
        if not (
            isinstance(keywords.get("trust_remote_code"), ast.Constant) and keywords["trust_remote_code"].value is False
        )
    ]
    assert trusting == [], "these calls may ask on the terminal, and a yes runs code of the repository"
