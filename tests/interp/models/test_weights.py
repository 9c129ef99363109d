"""The model that thinks holds the weights of its files: all of them, and no others."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import interp
from interp.errors import StoreError
from interp.models.weights import plain_name
from interp.models.wrapping import quiet

PLAIN = "model.safetensors"
DOWN = "model.layers.1.mlp.down_proj.weight"


def rewritten(folder, tmp_path, change, name="changed"):
    """A copy of a model whose tensors `change` has made anew."""
    copy = Path(shutil.copytree(folder, tmp_path / name))
    state = change(load_file(copy / PLAIN))
    save_file({key: value.contiguous() for key, value in state.items()}, copy / PLAIN, metadata={"format": "pt"})
    return copy


def without(name):
    return lambda state: {key: value for key, value in state.items() if key != name}


def finding(reasoner, what):
    return next(item for item in reasoner.loaded.findings if item.what == what)


@pytest.fixture(scope="module")
def llama(model_folder):
    return model_folder("llama")


@pytest.fixture(scope="module")
def hash_of_llama(llama):
    return interp.load(llama).weights


def every_layer(wrapper):
    """Put a wrapper around each layer and its attention, as FSDP and activation checkpoints do."""
    return lambda name: name.replace("layers.0.", f"layers.0.{wrapper}").replace("self_attn.", f"self_attn.{wrapper}")


@pytest.mark.parametrize(
    ("rename", "prefixes"),
    [
        (lambda name: f"_orig_mod.{name}", "_orig_mod."),
        (lambda name: f"module.{name}", "module."),
        (lambda name: f"base_model.model.{name}", "base_model.model."),
        (lambda name: f"_fsdp_wrapped_module.{name}", "_fsdp_wrapped_module."),
        (lambda name: f"module._orig_mod.module.{name}", "_orig_mod., module."),
        (every_layer("_orig_mod."), "_orig_mod."),
        (every_layer("_fsdp_wrapped_module._checkpoint_wrapped_module."),
         "_checkpoint_wrapped_module., _fsdp_wrapped_module."),
    ],
    ids=["compile", "data parallel", "peft", "fsdp", "three", "compiled layers", "fsdp layers"],
)  # fmt: skip
def test_a_known_prefix_is_taken_off_and_said(rename, prefixes, llama, hash_of_llama, tmp_path):
    folder = rewritten(llama, tmp_path, lambda state: {rename(name): value for name, value in state.items()})
    reasoner = interp.load(folder, strip_prefixes=True)
    assert reasoner.weights == hash_of_llama
    assert finding(reasoner, "prefixes").value == prefixes
    assert finding(reasoner, "prefixes").how == "assumed", "so that commands print it"
    assert finding(reasoner, "weights").how == "checked"


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "base_model.model.", "_fsdp_wrapped_module."])
def test_a_prefix_is_refused_in_python_unless_asked_for(prefix, llama, tmp_path):
    """A table that nobody looks at is silence; the message names what the file lacks, and how to load it."""
    folder = rewritten(llama, tmp_path, lambda state: {prefix + name: value for name, value in state.items()})
    message = rf"21 tensors with the prefix '{re.escape(prefix)}'.* 21 missing: lm_head\.weight, .*strip_prefixes=True"
    with pytest.raises(StoreError, match=message):
        interp.load(folder)


def test_commands_take_a_prefix_off_and_print_it(llama, hash_of_llama, tmp_path, cotlens):
    folder = rewritten(llama, tmp_path, lambda state: {f"_orig_mod.{name}": value for name, value in state.items()})
    traces, store = tmp_path / "traces.parquet", tmp_path / "store"
    questions = tmp_path / "questions.jsonl"
    questions.write_text('{"question": "What is 2 plus 2?", "answer": "4"}\n', encoding="utf-8")
    thought = cotlens("think", folder, "--questions", questions, "--max-answer-tokens", "3", "--out", traces)
    assert thought.code == 0 and "prefixes: _orig_mod. (taken off the names of 21 tensors of the file" in thought.err
    assert {trace.weights for trace in interp.TraceSet.from_parquet(traces)} == {hash_of_llama}
    captured = cotlens("capture", "run", folder, traces, "--out", store)
    assert captured.code == 0, captured.err
    assert interp.Store(store).meta["origin"]["strip_prefixes"] is True, "so that workers and readers load it again"


def test_a_converted_model_has_no_prefix_and_says_where_it_had_one(llama, hash_of_llama, tmp_path, cotlens):
    folder = rewritten(llama, tmp_path, lambda state: {f"module.{name}": value for name, value in state.items()})
    ended = cotlens("models", "convert", folder, "--out", tmp_path / "plain")
    assert ended.code == 0 and "taken off the names of tensors: module." in ended.out
    reasoner = interp.load(tmp_path / "plain")
    assert reasoner.weights == hash_of_llama
    assert "module. taken off the names of its tensors then" in finding(reasoner, "converted").note


def test_names_without_what_training_puts_around_them():
    assert plain_name("module._orig_mod.model.layers.0._fsdp_wrapped_module.mlp.up_proj.weight") == (
        "model.layers.0.mlp.up_proj.weight"
    )
    assert plain_name("transformer.module.weight") == "transformer.module.weight", "only at the beginning"
    assert plain_name("model.my_orig_mod.weight") == "model.my_orig_mod.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without(DOWN), rf"1 missing: {DOWN}\. Do this: save it again with save_pretrained"),
        (without("lm_head.weight"), r"1 missing: lm_head\.weight\."),
        (lambda state: {**state, DOWN: state[DOWN][:, :40]},
         rf"1 of another shape: {DOWN} \(32x40 in the file, 32x48 by the configuration\)"),
        (lambda state: {**state, "model.embed_tokens.weight": state["model.embed_tokens.weight"][:-3]},
         r"of another shape: model\.embed_tokens\.weight"),
        (lambda state: {**state, "v_head.summary.weight": torch.ones(1, 32)},
         r"1 without a place in it: v_head\.summary\.weight"),
        (lambda state: {**state, "model.layers.0.mlp.up_proj.lora_A.weight": torch.ones(4, 32)},
         r"merge them into the model"),
        (lambda state: {f"teacher.{name}": value for name, value in state.items()},
         r"21 missing: lm_head\.weight, .*, and 13 more; 21 without a place in it: teacher\.lm_head\.weight"),
        (lambda state: {**state, "_orig_mod.lm_head.weight": state["lm_head.weight"] + 1},
         r"got two of lm_head\.weight: _orig_mod\.lm_head\.weight and lm_head\.weight"),
        (lambda state: {**state, DOWN: (state[DOWN] * 9).to(torch.int8)},
         rf"got integers in 1 tensors: {DOWN}\. They are quantised"),
    ],
    ids=["one missing", "untied head", "shape", "vocabulary", "value head", "adapters", "unknown prefix", "twice",
         "integers"],
)  # fmt: skip
def test_files_that_are_not_the_whole_model_are_refused(change, message, llama, tmp_path):
    with pytest.raises(StoreError, match=message):
        interp.load(rewritten(llama, tmp_path, change))


def in_shards(folder, out):
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        model.save_pretrained(out, max_shard_size="20KB")
    for file in folder.glob("tokenizer*"):
        shutil.copy(file, out)
    assert len(list(out.glob("model-*.safetensors"))) > 2
    return out


def test_shards_are_read_whole(llama, hash_of_llama, tmp_path):
    folder = in_shards(llama, tmp_path / "shards")
    assert interp.load(folder).weights == hash_of_llama
    index = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))
    shard = folder / index["weight_map"][DOWN]
    state = load_file(shard)
    save_file(without(DOWN)(state), shard, metadata={"format": "pt"})
    with pytest.raises(StoreError, match=rf"1 missing: {DOWN}"):
        interp.load(folder)
    shard.unlink()
    with pytest.raises(StoreError, match="cannot load a model"):
        interp.load(folder)


def test_a_pickle_is_held_to_the_same(llama, hash_of_llama, tmp_path):
    folder = Path(shutil.copytree(llama, tmp_path / "pickle"))
    state = load_file(folder / PLAIN)
    (folder / PLAIN).unlink()
    torch.save({f"_orig_mod.{name}": value for name, value in state.items()}, folder / "pytorch_model.bin")
    assert interp.load(folder, allow_pickle=True, strip_prefixes=True).weights == hash_of_llama
    torch.save(without(DOWN)(state), folder / "pytorch_model.bin")
    with pytest.raises(StoreError, match="1 missing"):
        interp.load(folder, allow_pickle=True)


def test_buffers_that_a_model_computes_itself_do_no_harm(llama, model_folder, hash_of_llama, tmp_path):
    inv_freq = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    reasoner = interp.load(rewritten(llama, tmp_path, lambda state: state | inv_freq))
    assert reasoner.weights == hash_of_llama and "1 of the files are not needed" in finding(reasoner, "weights").note
    mask = {"transformer.h.0.attn.bias": torch.ones(1, 1, 4, 4), "transformer.h.0.attn.masked_bias": torch.tensor(-1e4)}
    reasoner = interp.load(rewritten(model_folder("gpt2"), tmp_path, lambda state: state | mask, "masks"))
    assert "2 of the files are not needed" in finding(reasoner, "weights").note


def test_a_tied_head_need_not_be_there_and_a_different_one_is_kept(model_folder, tmp_path):
    """GPT-2 ties its head; where a file holds another head all the same, the model has that one."""
    folder = model_folder("gpt2")
    assert "lm_head.weight" not in load_file(folder / PLAIN)
    assert "ties them" not in finding(interp.load(folder), "weights").note
    head = torch.full_like(load_file(folder / PLAIN)["transformer.wte.weight"], 0.25)
    untied = interp.load(rewritten(folder, tmp_path, lambda state: state | {"lm_head.weight": head}))
    assert "the configuration ties them" in finding(untied, "weights").note
    assert torch.equal(untied.unembed.weight, head) and not torch.equal(untied.embed.weight, head)


@pytest.mark.parametrize("architecture", ["qwen3_moe", "gpt_oss", "gemma3_text", "gpt_neox", "phi3"])
def test_every_tensor_of_an_architecture_is_compared(architecture, model_folder):
    """Experts too, which transformers fuses while it reads them."""
    folder = model_folder(architecture)
    found = finding(interp.load(folder), "weights")
    assert found.value.startswith(f"{len(load_file(folder / PLAIN))} tensors") and found.note == "equal to the files'"


def test_values_that_reading_has_changed_are_found(llama, monkeypatch):
    real = AutoModelForCausalLM.from_pretrained

    def wrong(*args, **options):
        model, info = real(*args, **options)
        model.model.layers[1].mlp.up_proj.weight.data[0, 0] += 1
        return model, info

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", wrong)
    with pytest.raises(StoreError, match=r"other values in 1 tensors: model\.layers\.1\.mlp\.up_proj\.weight"):
        interp.load(llama)


def test_the_tokenizer_has_no_token_without_an_embedding(llama, tmp_path, asked):
    folder = Path(shutil.copytree(llama, tmp_path / "longer"))
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    n = len(tokenizer)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(folder)
    padded = interp.load(folder).with_config(max_thought_tokens=3, max_answer_tokens=2)
    expected = interp.load(llama).with_config(max_thought_tokens=3, max_answer_tokens=2)
    assert [t.token_ids for t in padded.think(asked(3))] == [t.token_ids for t in expected.think(asked(3))]
    tokenizer.add_tokens(["extra"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(StoreError, match=rf"at most {n} tokens, .* got 1 tokens without one: 'extra' \({n + 1}\)"):
        interp.load(folder)


def test_doctor_does_not_check_the_logits_of_another_model(llama, tmp_path, cotlens):
    folder = rewritten(llama, tmp_path, without(DOWN))
    ended = cotlens("doctor", folder)
    assert ended.code == 5 and DOWN in ended.error and "checked" not in ended.out
