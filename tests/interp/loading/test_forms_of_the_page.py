"""Every form of docs/models.md opens: the lines of "Every form that opens" run, each on a small file of that form."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import interp
from interp.activations import Store
from interp.errors import StoreError
from interp.models.markers import COCONUT_TOKENS
from interp.models.wrapping import quiet
from tests.interp.commands.test_own_questions import write as write_questions
from tests.interp.decoders.test_tuned_lens_folder import write_folder as write_lens
from tests.interp.loading.small_gguf import small_llama, write_gguf
from tests.interp.loading.test_adapters import made as make_adapter
from tests.interp.models.test_quantised import FP8, blocks_in_8_bits, rewritten
from tests.interp.sae.test_foreign import sparsify_folder
from tests.interp.transcripts.conversations import FORMATS
from tests.interp.transcripts.test_models_page import commands, section

pytest.importorskip("gguf")
pytest.importorskip("peft")
COMMANDS = commands(section("Every form that opens"))
WIDTH, N_FEATURES = 128, 40


@pytest.fixture(scope="module")
def place(
    model_folder: Callable[..., Path], chat_llama: Path, store: Store, coconut: interp.Reasoner, made_here: Path
) -> Path:
    """A folder with a file of every form, under the names of the page."""
    here = made_here
    llama, gpt2 = model_folder("llama"), model_folder("gpt2", special=COCONUT_TOKENS)
    shutil.copytree(chat_llama, here / "llama")
    sampling = {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "do_sample": True, "eos_token_id": [2, 0]}
    (here / "llama" / "generation_config.json").write_text(json.dumps(sampling), encoding="utf-8")
    write_gguf(here / "llama.gguf", *small_llama())
    make_adapter(llama, here / "adapter")
    shutil.copytree(llama, here / "other")
    rewritten(llama, here / "llama-fp8", FP8, blocks_in_8_bits)
    shutil.copytree(gpt2, here / "gpt2")
    for name in ("coconut", "codi", "sim-cot"):
        (here / name).mkdir()
    state = load_file(gpt2 / "model.safetensors")
    state = {name if name.startswith("transformer.") else f"transformer.{name}": v for name, v in state.items()}
    wrapped = {f"base_causallm.{name}": value for name, value in state.items()}
    write_shards(here / "coconut", wrapped)
    save_file(
        wrapped | {f"expainable_llm.{n}": v.clone() for n, v in state.items()}, here / "sim-cot" / "m.safetensors"
    )
    save_file(codi_state(state), here / "codi" / "model.safetensors")
    for name, form in (("chats.jsonl", "reasoning"), ("log.eval", "inspect"), ("dataset", "arrow")):
        (here / "made").mkdir()
        FORMATS[form](here / "made").rename(here / name)
        shutil.rmtree(here / "made")
    FORMATS["thought anchors"](here)
    write_saes(here, store)
    write_lens(here / "lens", coconut.unembed.weight.detach().numpy())
    write_store(here, coconut)
    write_questions(here / "oracle.jsonl", coconut.task.generate(30, seed=5, split="test"))
    return here


@pytest.fixture(scope="module")
def made_here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("forms")


@pytest.fixture(scope="module")
def chat_llama(model_folder: Callable[..., Path]) -> Path:
    chat = (
        "{%- for m in messages %}<|{{ m.role }}|>{{ m.content }}{%- endfor %}{# <think> </think> #}"
        "{%- if add_generation_prompt %}<|assistant|>{%- endif %}"
    )
    return model_folder("llama", bos=False, chat=chat)


def write_shards(folder: Path, state: dict[str, torch.Tensor]) -> None:
    """Write a state dict in two files and their index, as `save_pretrained` does for large models."""
    names = sorted(state)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, members in shards.items():
        save_file({name: state[name].contiguous() for name in members}, folder / file)
    weight_map = {name: file for file, members in shards.items() for name in members}
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def codi_state(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a state dict as CODI's code writes it, with one low-rank adapter and without a projection."""
    words = state["transformer.wte.weight"]  # of CODI's three tokens the base has two already
    state = state | {"transformer.wte.weight": torch.cat([words, words[:1]])}
    adapted = "transformer.h.0.attn.c_attn"
    held = {f"codi.base_model.model.{name.replace(adapted, f'{adapted}.base_layer')}": v for name, v in state.items()}
    d, out = state[f"{adapted}.weight"].shape
    held[f"codi.base_model.model.{adapted}.lora_A.default.weight"] = torch.full((4, d), 0.01)
    held[f"codi.base_model.model.{adapted}.lora_B.default.weight"] = torch.full((out, 4), 0.01)
    return {name: value.clone().contiguous() for name, value in held.items()}


def write_saes(here: Path, store: Store) -> None:
    """Write principal directions of a store as an SAE of each library, so that it explains the activations."""
    from sae_lens import StandardSAE, StandardSAEConfig

    acts = store.acts("blocks.2.hook_out", store.thought_rows)
    mean = torch.from_numpy(acts.mean(axis=0)).float()
    directions = np.linalg.svd(acts - acts.mean(axis=0), full_matrices=False)[2][: N_FEATURES // 2]
    both = torch.from_numpy(np.concatenate([directions, -directions])).float().contiguous()
    folder = sparsify_folder(
        here / "sparsify", "layers.2", d=WIDTH, model="chain-coconut", num_latents=N_FEATURES, k=10
    )
    zeros = torch.zeros(N_FEATURES)
    save_file(
        {"encoder.weight": both, "encoder.bias": zeros, "W_dec": both.clone(), "b_dec": mean},
        folder / "sae.safetensors",
    )
    (here / "dictionary").mkdir()
    weights = {"encoder.weight": both, "encoder.bias": zeros, "decoder.weight": both.T.contiguous(), "b_dec": mean}
    about = {"dict_class": "AutoEncoderTopK", "activation_dim": WIDTH, "dict_size": N_FEATURES, "k": 10, "layer": 2}
    about |= {"lm_name": "chain-coconut", "submodule_name": "resid_post_layer_2"}
    extra = {"k": torch.tensor(10), "threshold": torch.tensor(-1.0)}
    torch.save(weights | extra, here / "dictionary" / "ae.pt")
    config = {"trainer": about, "buffer": {"ctx_len": 128}}
    (here / "dictionary" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    sae = StandardSAE(StandardSAEConfig(d_in=WIDTH, d_sae=N_FEATURES))
    with torch.no_grad():
        sae.W_enc.copy_(both.T)
        sae.W_dec.copy_(both)
        sae.b_dec.copy_(mean)
    sae.cfg.metadata.hook_name = "blocks.2.hook_out"
    sae.cfg.metadata.model_name = "chain-coconut"
    sae.save_model(here / "saelens")


def write_store(here: Path, coconut: interp.Reasoner) -> None:
    """Capture questions of a user's own, whose column `topic` is a label."""
    from interp.problems.questions.file import read_question_file

    problems = coconut.task.generate(80, seed=9, split="test")
    write_questions(here / "own.jsonl", problems)
    lines = [json.loads(line) for line in (here / "own.jsonl").read_text(encoding="utf-8").splitlines()]
    labelled = [line | {"topic": "even" if int(line["answer"]) % 2 == 0 else "odd"} for line in lines]
    (here / "own.jsonl").write_text("\n".join(map(json.dumps, labelled)), encoding="utf-8")
    own = read_question_file(here / "own.jsonl").problems
    interp.capture(coconut, coconut.think(own), out=here / "runs" / "store")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("command", COMMANDS, ids=[" ".join(command[:4]) for command in COMMANDS])
def test_every_line_runs(
    command: list[str], place: Path, monkeypatch: pytest.MonkeyPatch, cotlens: Callable[..., Any]
) -> None:
    monkeypatch.chdir(place)
    ended = cotlens(*(part.replace("MODEL", "chain-coconut") for part in command))
    assert ended.code == 0, ended.err
    if command[0] == "doctor":
        assert "checked" in ended.out and "logits" in ended.out


def logits(reasoner: interp.Reasoner) -> torch.Tensor:
    ids = torch.arange(16)[None] * 13 % 250
    inputs = {"inputs_embeds": reasoner.embed(ids), "attention_mask": torch.ones_like(ids), "use_cache": False}
    with torch.no_grad(), quiet():
        return reasoner.unembed(reasoner.base(**inputs).last_hidden_state)


def test_a_state_dict_in_several_files_is_the_one_in_one_file(place: Path) -> None:
    sharded, whole = (interp.load(place / name, base=place / "gpt2") for name in ("coconut", "sim-cot"))
    assert sharded.kind == "continuous" and sharded.weights == whole.weights
    assert torch.equal(logits(sharded), logits(whole)) and torch.equal(
        logits(sharded), logits(interp.load(place / "gpt2"))
    )
    notes = {finding.what: finding.value for finding in whole.loaded.findings}
    assert notes["left out"].endswith("tensors of SIM-CoT's second model")
    assert "left out" not in {finding.what for finding in sharded.loaded.findings}


def test_a_missing_file_and_a_wrong_index_are_named(place: Path, tmp_path: Path) -> None:
    second = "model-00002-of-00002.safetensors"
    broken = Path(shutil.copytree(place / "coconut", tmp_path / "a"))
    (broken / second).unlink()
    with pytest.raises(StoreError, match=f"expected {second} beside .*, got none; copy all files"):
        interp.load(broken, base=place / "gpt2")
    broken = Path(shutil.copytree(place / "coconut", tmp_path / "b"))
    save_file({**load_file(broken / second), "base_causallm.other": torch.ones(2)}, broken / second)
    with pytest.raises(StoreError, match=r"to hold what model\.safetensors\.index\.json lists.*base_causallm\.other"):
        interp.load(broken, base=place / "gpt2")
    broken = Path(shutil.copytree(place / "coconut", tmp_path / "c"))
    index = broken / "model.safetensors.index.json"
    index.write_text(index.read_text(encoding="utf-8").replace(second, f"../{second}"), encoding="utf-8")
    assert json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    with pytest.raises(StoreError, match=r"expected files beside .*, got '\.\./model-00002"):
        interp.load(broken / index.name, base=place / "gpt2")
