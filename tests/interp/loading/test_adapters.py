"""Adapters in PEFT's format: the model is PEFT's own, every tensor of the adapter is in it, or loading stops."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import interp
from interp.errors import StoreError, UsageError
from interp.models.wrapping import quiet

peft = pytest.importorskip("peft")

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
IDS = torch.arange(12)[None] * 17 % 250
LINEAR = ["q_proj", "v_proj", "down_proj"]


@pytest.fixture(scope="module")
def llama(model_folder: Callable[..., Path]) -> Path:
    return model_folder("llama")


def base_model(folder: Path) -> Any:
    with quiet():
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False).eval()


def made(base: Path, out: Path, *, rows: int | None = None, config: Any = None, **options: Any) -> Path:
    """Write an adapter with random weights for a base, as PEFT writes it."""
    model = base_model(base)
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        if rows is not None:
            model.resize_token_embeddings(rows, mean_resizing=False)
        options = {"r": 4, "lora_alpha": 8, "target_modules": LINEAR, "task_type": "CAUSAL_LM"} | options
        adapted = peft.get_peft_model(model, config or peft.LoraConfig(**options))
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.data += 0.1 * torch.randn_like(parameter)
        adapted.save_pretrained(str(out))
    return out


def changed(adapter: Path, out: Path, change: Callable[[dict], dict], **fields: Any) -> Path:
    """Return a copy of an adapter with other tensors, and with some fields of its configuration changed."""
    copy = Path(shutil.copytree(adapter, out))
    save_file(change(load_file(copy / WEIGHTS)), copy / WEIGHTS, metadata={"format": "pt"})
    config = json.loads((copy / CONFIG).read_text(encoding="utf-8")) | fields
    (copy / CONFIG).write_text(json.dumps(config), encoding="utf-8")
    return copy


def logits(reasoner: Any, ids: torch.Tensor = IDS) -> torch.Tensor:
    with torch.no_grad():
        inputs = {"inputs_embeds": reasoner.embed(ids), "attention_mask": torch.ones_like(ids), "use_cache": False}
        return reasoner.unembed(reasoner.base(**inputs).last_hidden_state)


def pefts_own(base: Path, adapter: Path, ids: torch.Tensor = IDS, rows: int | None = None) -> torch.Tensor:
    model = base_model(base)
    if rows is not None:
        with quiet():
            model.resize_token_embeddings(rows, mean_resizing=False)
    with quiet(), torch.no_grad():
        return peft.PeftModel.from_pretrained(model, str(adapter)).eval()(input_ids=ids).logits


def finding(reasoner: Any, what: str) -> Any:
    return next(item for item in reasoner.loaded.findings if item.what == what)


@pytest.fixture(scope="module")
def lora(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(llama, tmp_path_factory.mktemp("lora") / "adapter")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_rslora": True},
        {"use_dora": True},
        {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 32}},
        {"target_modules": "all-linear"},
        {"modules_to_save": ["lm_head"]},
        {"modules_to_save": ["embed_tokens"]},
        {"trainable_token_indices": [3, 9]},
        {"target_modules": ["q_proj", "embed_tokens"]},
        {"layers_to_transform": [1]},
        {"config": "IA3"},
    ],
    ids=lambda options: next(iter(options), "plain"),
)
def test_logits_are_those_of_pefts_own_model(llama: Path, tmp_path: Path, options: dict) -> None:
    if options.get("config") == "IA3":
        config = peft.IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"])
        options = {"config": config}
    adapter = made(llama, tmp_path / "adapter", **options)
    expected = pefts_own(llama, adapter)
    reasoner = interp.load(adapter)
    assert torch.allclose(logits(reasoner), expected, atol=1e-4), "the base that the adapter names"
    assert not torch.allclose(expected, base_model(llama)(input_ids=IDS).logits, atol=1e-2), (
        "the adapter does something"
    )
    assert f"all {len(load_file(adapter / WEIGHTS))} tensors" in finding(reasoner, "adapter").note


def test_the_base_can_be_given_and_is_reported(llama: Path, lora: Path, tmp_path: Path) -> None:
    moved = changed(lora, tmp_path / "moved", dict, base_model_name_or_path=str(tmp_path / "gone"))
    with pytest.raises(UsageError, match=r"the base .*gone' of the adapter in .*moved cannot be loaded"):
        interp.load(moved)
    reasoner = interp.load(moved, base=llama)
    assert torch.equal(logits(reasoner), logits(interp.load(lora)))
    assert (finding(reasoner, "base").how, finding(interp.load(lora), "base").how) == ("given", "read")
    assert reasoner.origin == {"source": str(moved), "base": str(llama)}
    nameless = changed(lora, tmp_path / "nameless", dict, base_model_name_or_path=None)
    with pytest.raises(UsageError, match="does not name its base model; name it with base="):
        interp.load(nameless)


def test_half_precision_is_the_merged_model_rounded_once(llama: Path, lora: Path) -> None:
    whole, half = interp.load(lora), interp.load(lora, dtype="bfloat16")
    name = "model.layers.1.self_attn.q_proj.weight"
    weights = [reasoner.model.original_model.state_dict() for reasoner in (whole, half)]
    key = next(
        key for key in weights[0] if key.replace("_original_component.", "").endswith(name.removeprefix("model."))
    )
    assert torch.equal(weights[0][key].to(torch.bfloat16), weights[1][key])


def test_a_missing_an_unknown_and_a_misshapen_tensor_are_named(lora: Path, tmp_path: Path) -> None:
    first = sorted(load_file(lora / WEIGHTS))[0]
    without = changed(lora, tmp_path / "without", lambda state: {k: v for k, v in state.items() if k != first})
    with pytest.raises(StoreError, match=rf"1 missing: {first.replace('.', '[.]')}"):
        interp.load(without)
    more = changed(
        lora, tmp_path / "more", lambda state: state | {"base_model.model.extra.lora_A.weight": torch.ones(2)}
    )
    with pytest.raises(StoreError, match=r"1 without a place in it: base_model[.]model[.]extra"):
        interp.load(more)
    wide = changed(lora, tmp_path / "wide", lambda state: state | {first: torch.ones(4, 999)})
    with pytest.raises((UsageError, StoreError), match=r"does not fit|of another shape") as error:
        interp.load(wide)
    assert "\n" not in str(error.value)


def test_an_adapter_of_another_architecture_is_one_line(model_folder: Callable[..., Path], lora: Path) -> None:
    with pytest.raises(
        UsageError, match=r"does not fit GPT2LMHeadModel: .*Name the model that it was trained on with base="
    ):
        interp.load(lora, base=model_folder("gpt2"))


def test_added_tokens_come_with_the_adapters_own_tokenizer(llama: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(llama, trust_remote_code=False)
    rows = len(tokenizer) + 2
    adapter = made(llama, tmp_path / "adapter", rows=rows, target_modules=LINEAR)
    tokenizer.add_tokens(["<plan>", "</plan>"], special_tokens=True)
    tokenizer.save_pretrained(adapter)
    reasoner = interp.load(adapter)
    assert reasoner.tokenizer.convert_tokens_to_ids("</plan>") == rows - 1 and reasoner.embed.weight.shape[0] == rows
    ids = torch.tensor([[5, rows - 1, 9, rows - 2]])
    assert torch.allclose(logits(reasoner, ids), pefts_own(llama, adapter, ids, rows), atol=1e-4)


@pytest.mark.parametrize("tables", [["embed_tokens", "lm_head"], ["embed_tokens"]], ids=["both", "one"])
def test_tokens_that_are_trained_one_by_one_come_from_added_tokens(
    llama: Path, tmp_path: Path, tables: list[str]
) -> None:
    rows = base_model(llama).get_input_embeddings().weight.shape[0]
    new = [rows, rows + 1]
    adapter = made(llama, tmp_path / "adapter", rows=rows + 2, trainable_token_indices=dict.fromkeys(tables, new))
    whole = ("embed_tokens.weight", "lm_head.weight")  # which PEFT saves as well
    stored = {k: v for k, v in load_file(adapter / WEIGHTS).items() if not k.endswith(whole)}
    save_file(stored, adapter / WEIGHTS, metadata={"format": "pt"})
    added = {"<b>": rows + 1, "<a>": rows}
    (adapter / "added_tokens.json").write_text(json.dumps(added), encoding="utf-8")
    if tables == ["embed_tokens"]:  # the unembedding's new rows would be random
        with pytest.raises(StoreError, match=rf"for each of the 2 tokens .* no unembedding of token {rows}"):
            interp.load(adapter)
        return
    reasoner = interp.load(adapter)
    assert reasoner.tokenizer.convert_tokens_to_ids(["<a>", "<b>"]) == new
    ids = torch.tensor([[5, rows + 1, 9, rows]])
    assert torch.allclose(logits(reasoner, ids), pefts_own(llama, adapter, ids, rows + 2), atol=1e-4)
    (adapter / "added_tokens.json").write_text(json.dumps(added | {"<c>": rows + 2}), encoding="utf-8")
    with pytest.raises(StoreError, match=rf"for each of the 3 tokens .* no embedding of token {rows + 2}"):
        interp.load(adapter)


def test_what_is_no_weight_adapter_is_refused(lora: Path, llama: Path, tmp_path: Path) -> None:
    prompt = changed(lora, tmp_path / "prompt", dict, peft_type="PREFIX_TUNING")
    with pytest.raises(UsageError, match="got peft_type 'PREFIX_TUNING', which cannot be added"):
        interp.load(prompt)
    both = Path(shutil.copytree(lora, tmp_path / "both"))
    shutil.copy(llama / "config.json", both)
    with pytest.raises(UsageError, match=r"expected an adapter or a model in .*both, got both"):
        interp.load(both)
    empty = Path(shutil.copytree(lora, tmp_path / "empty"))
    (empty / WEIGHTS).unlink()
    with pytest.raises(StoreError, match="got no weights; copy the whole adapter folder"):
        interp.load(empty)
    (empty / CONFIG).write_text("{", encoding="utf-8")
    with pytest.raises(StoreError, match="expected JSON in"):
        interp.load(empty)


def test_a_pickle_is_read_only_where_it_is_trusted(lora: Path, tmp_path: Path) -> None:
    pickled = Path(shutil.copytree(lora, tmp_path / "pickled"))
    torch.save(load_file(lora / WEIGHTS), pickled / "adapter_model.bin")
    (pickled / WEIGHTS).unlink()
    with pytest.raises(UsageError, match="--allow-pickle"):
        interp.load(pickled)
    assert torch.equal(logits(interp.load(pickled, allow_pickle=True)), logits(interp.load(lora)))


def test_options_without_effect_are_refused(lora: Path, llama: Path) -> None:
    with pytest.raises(UsageError, match=r"lora_alpha.*adapter_config.json gives it; leave it out"):
        interp.load(lora, lora_alpha=16)
    with pytest.raises(UsageError, match=r"expected base only with an adapter .* which is a whole model"):
        interp.load(llama, base=llama)


def test_without_peft_one_line_names_the_extra(lora: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UsageError, match=r"pip install 'cotlens\[peft\]'"):
        interp.load(lora)


def test_an_adapter_says_how_it_thinks(lora: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(lora, tmp_path / "own"))
    fields = {"kind": "text", "begin": "<think>", "end": "</think>", "eos": "<eos>", "prompt": "Q: {question}\n"}
    (own / "reasoner.json").write_text(json.dumps(fields), encoding="utf-8")
    assert interp.load(own).config.prompt == "Q: {question}\n"


@pytest.mark.parametrize(
    "command", [["doctor", "ADAPTER"], ["doctor", "ADAPTER", "--base", "BASE"]], ids=["own base", "--base"]
)
def test_the_commands_of_the_docs_run(
    lora: Path, llama: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    from cotlens.cli import main

    with contextlib.suppress(SystemExit):
        main([{"ADAPTER": str(lora), "BASE": str(llama)}.get(part, part) for part in command])
    shown = capsys.readouterr().out
    assert "adapter" in shown and "LORA" in shown and "added to the base's weights" in " ".join(shown.split())
