"""GGUF files: the model is the file's, however it is named."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import sys
from pathlib import Path

import pytest
import torch

import interp
from interp.errors import StoreError, UsageError
from interp.loading.convert import convert, get_named_model
from interp.loading.named_models import CONVERSION, NAMED_MODELS, converted_folder, named_model_source
from tests.interp.loading.small_gguf import small_llama, write_gguf

pytest.importorskip("gguf")


@pytest.fixture(scope="module")
def original() -> tuple:
    return small_llama()


@pytest.fixture(scope="module")
def file(original: tuple, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "small.F32.gguf", *original)


@pytest.mark.parametrize("form", ["file", "folder"])
def test_logits_are_those_of_the_model_that_was_written(original: tuple, file: Path, form: str) -> None:
    reasoner = interp.load(file if form == "file" else file.parent)
    ids = torch.arange(20)[None] * 13 % 290
    with torch.no_grad():
        expected = original[0](ids).logits
        hidden = reasoner.base(inputs_embeds=reasoner.embed(ids), attention_mask=torch.ones_like(ids), use_cache=False)
        got = reasoner.unembed(hidden.last_hidden_state)
    assert torch.allclose(got, expected, atol=1e-5)


def test_template_markers_and_tokenizer_come_from_the_file(original: tuple, file: Path) -> None:
    reasoner = interp.load(file)
    config = reasoner.config
    assert (config.kind, config.begin, config.end, config.prompt) == ("text", "<think>", "</think>", "chat")
    assert config.eos == "<eos>"
    text = "What is two plus two?"
    assert reasoner.tokenizer(text, add_special_tokens=False)["input_ids"] == original[1].encode(text).ids
    findings = {finding.what: finding.value for finding in reasoner.loaded.findings}
    assert findings["weights"] == "dequantised from small.F32.gguf"


def test_a_missing_tensor_is_named(original: tuple, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "broken.gguf", *original, leave_out="blk.1.ffn_up.weight")
    with pytest.raises(StoreError, match=r"1 missing: model\.layers\.1\.mlp\.up_proj\.weight"):
        interp.load(path)


def test_a_file_that_is_no_gguf_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.gguf").write_text("hello, this is not a model", encoding="utf-8")
    with pytest.raises(StoreError, match="cannot load a model from") as error:
        interp.load(tmp_path / "text.gguf")
    assert "\n" not in str(error.value)


def test_two_files_in_a_folder_and_a_path_without_a_file(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).touch()
    with pytest.raises(UsageError, match=r"expected one GGUF file in .*, got 2 \(a\.gguf, b\.gguf\)"):
        interp.load(tmp_path)
    with pytest.raises(UsageError, match=r"expected a GGUF file at .*none\.gguf, got none"):
        interp.load(tmp_path / "none.gguf")


def test_the_missing_package_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(UsageError, match=r"pip install 'cotlens\[gguf\]'"):
        interp.load(file)


def test_a_trace_store_loads_its_model_again(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    reasoner = interp.load(file.name).with_config(max_thought_tokens=4, max_answer_tokens=3)
    questions = tmp_path / "questions.jsonl"
    questions.write_text('{"question": "What is two plus two?", "answer": "4"}\n', encoding="utf-8")
    problems = interp.problems.questions.read_questions(questions)[0]
    store = interp.capture(reasoner, reasoner.think(problems), out=tmp_path / "store")
    monkeypatch.chdir(tmp_path)
    again = store.load_reasoner()
    assert again.weights == reasoner.weights and again.name == reasoner.name


def test_a_converted_file_is_the_same_model_and_says_where_it_comes_from(file: Path, tmp_path: Path) -> None:
    folder = convert(file, tmp_path / "converted")
    first, second = interp.load(file), interp.load(folder)
    assert (first.weights, first.tokenizer_hash, first.config) == (second.weights, second.tokenizer_hash, second.config)
    findings = {finding.what: finding.value for finding in second.loaded.findings}
    assert findings["converted"] == "from small.F32.gguf"
    with pytest.raises(UsageError, match=r"expected a new folder for --out, got .*converted, which exists"):
        convert(file, folder)


def test_a_conversion_that_changes_anything_is_refused_and_leaves_nothing(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import LlamaForCausalLM

    save = LlamaForCausalLM.save_pretrained

    def save_another(model: torch.nn.Module, folder: Path) -> None:
        with torch.no_grad():
            model.get_parameter("model.norm.weight").add_(1e-3)
        save(model, folder)

    monkeypatch.setattr(LlamaForCausalLM, "save_pretrained", save_another)
    with pytest.raises(StoreError, match=r"expected the same model after conversion of .*, got other weights"):
        convert(file, tmp_path / "converted")
    assert not list(tmp_path.iterdir())


def test_a_name_loads_the_converted_model_and_without_it_the_file(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    named = dataclasses.replace(NAMED_MODELS["smollm2"], file=file.name, sha256=digest)
    monkeypatch.setitem(NAMED_MODELS, "smollm2", named)
    monkeypatch.setenv("COTLENS_MODELS", str(tmp_path))
    (tmp_path / "smollm2").mkdir()
    shutil.copy(file, tmp_path / "smollm2")
    assert named_model_source("smollm2") == tmp_path / "smollm2" / file.name
    before = interp.load("smollm2")
    assert get_named_model("smollm2") == tmp_path / "smollm2" / "converted"
    after = interp.load("smollm2")
    assert named_model_source("smollm2") == converted_folder("smollm2")
    assert (before.weights, before.name) == (after.weights, after.name) == (before.weights, "smollm2")
    (converted_folder("smollm2") / CONVERSION).unlink()  # as a conversion that was cut off
    assert named_model_source("smollm2").suffix == ".gguf"
    assert get_named_model("smollm2") == converted_folder("smollm2")


def test_two_processes_that_fetch_the_same_model_both_get_it(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setitem(
        NAMED_MODELS, "smollm2", dataclasses.replace(NAMED_MODELS["smollm2"], file=file.name, sha256=digest)
    )
    monkeypatch.setenv("COTLENS_MODELS", str(tmp_path))
    (tmp_path / "smollm2").mkdir()
    shutil.copy(file, tmp_path / "smollm2")

    def slower(spec: Path, out: Path) -> Path:
        convert(spec, out)  # the other process, which is done first
        return convert(spec, out)

    monkeypatch.setattr("interp.loading.convert.convert", slower)
    assert get_named_model("smollm2") == converted_folder("smollm2")

    def full(spec: Path, out: Path) -> Path:
        raise StoreError("no space left")

    (converted_folder("smollm2") / CONVERSION).unlink()
    monkeypatch.setattr("interp.loading.convert.convert", full)
    with pytest.raises(StoreError, match="no space left"):
        get_named_model("smollm2")
