"""`interp.load` on folders that were not made by this project: what it recognises, assumes and refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import interp
from interp.errors import StoreError, UsageError
from interp.models.markers import COCONUT_TOKENS, KNOWN_MARKERS
from interp.models.wrapping import quiet
from interp.reasoners import ReasonerConfig

TURNS = "{% for m in messages %}<|user|>{{ m['content'] }}{% endfor %}"
CHAT = TURNS + "{% if add_generation_prompt %}<|assistant|>{% endif %}"
# Mentions the markers without opening the thought: the model is to write the first one itself.
THINKING_CHAT = "{# <think> </think> #}" + CHAT
# Opens the thought in the prompt, as DeepSeek-R1's distills do.
OPENING_CHAT = CHAT.replace("<|assistant|>", "<|assistant|><think>\n")


def how(reasoner, what):
    return next(each.how for each in reasoner.loaded.findings if each.what == what)


def copied(folder, tmp_path):
    return Path(shutil.copytree(folder, tmp_path / "model"))


def test_a_recognised_template_works_first_time(model_folder, asked):
    reasoner = interp.load(model_folder("qwen3", chat=THINKING_CHAT))
    assert (reasoner.kind, reasoner.config.begin, reasoner.config.end) == ("text", "<think>", "</think>")
    assert (reasoner.config.prompt, reasoner.config.bos, reasoner.config.eos) == ("chat", True, "<eos>")
    assert how(reasoner, "kind") == "recognised" and how(reasoner, "logits") == "checked"
    # Its 192 positions are fewer than the usual room for an answer; nothing else is assumed.
    assert [finding.what for finding in reasoner.loaded.unsure] == ["max_answer_tokens"]
    assert list(reasoner.loaded.table().columns) == ["what", "value", "how", "note"]
    trace = reasoner.with_config(max_thought_tokens=6, max_answer_tokens=3).think(asked(2))[1]
    assert trace.tokens[:2] == ["<bos>", "<|user|>"], "the beginning is there once"
    at = trace.channel.index("special")
    assert trace.tokens[at - 1 : at + 1] == ["<|assistant|>", "<think>"] and trace.places[at - 1 : at + 1] == [
        "question end",
        "begin",
    ]
    assert trace.channel.count("thought") <= 6 and trace.places.count("end") == 1


def test_a_thought_that_the_template_opens_is_not_opened_twice(model_folder, asked):
    reasoner = interp.load(model_folder("llama", chat=OPENING_CHAT)).with_config(
        max_thought_tokens=6, max_answer_tokens=3
    )
    for trace in reasoner.think(asked(3)):
        assert trace.tokens.count("<think>") == 1
        at = trace.tokens.index("<think>")
        assert trace.channel[at - 1 : at + 3] == ["prompt", "special", "special", "thought"]
        assert trace.places[at - 1 : at + 3] == ["question end", "begin marker", "begin", "thought 1"]


def test_a_model_without_markers_answers_directly_and_says_so(model_folder, asked):
    reasoner = interp.load(model_folder("mistral", special=()))
    assert reasoner.kind == "direct" and reasoner.config.prompt == "{question}"
    assert [each.what for each in reasoner.loaded.unsure] == ["prompt", "kind"]
    assert "all that it writes counts as its answer" in reasoner.loaded.line()
    trace = reasoner.with_config(max_answer_tokens=4).think(asked(1))[0]
    assert set(trace.channel) == {"prompt", "answer"} and trace.places[-4:] == [
        "answer",
        "answer 2",
        "answer 3",
        "answer 4",
    ]


def test_markers_given_by_hand_keep_what_was_recognised(model_folder):
    reasoner = interp.load(
        model_folder("llama", chat=CHAT), reasoner={"kind": "text", "begin": None, "end": "So the answer is"}
    )
    assert reasoner.config.prompt == "chat" and reasoner.config.end == "So the answer is"
    assert how(reasoner, "end") == "given"
    with pytest.raises(UsageError, match="reasoner= does not describe a reasoner: prompt"):
        interp.load(model_folder("llama"), reasoner={"prompt": "no place for it"})


@pytest.mark.parametrize("markers", KNOWN_MARKERS, ids=lambda markers: markers.begin)
def test_every_known_pair_of_markers_is_recognised_in_a_template(markers, model_folder):
    from interp.models.markers import thinking_markers

    tokenizer = AutoTokenizer.from_pretrained(model_folder("llama"))
    vocabulary = {"a": 0}
    tokenizer.get_vocab = lambda: vocabulary
    assert thinking_markers(tokenizer) is None
    tokenizer.chat_template = f"{{# {markers.begin} #}}...{markers.end}"
    assert thinking_markers(tokenizer) == markers


def test_channels_of_gpt_oss_are_markers_of_several_tokens(model_folder, asked):
    special = ("<|channel|>", "<|message|>", "<|start|>", "<|end|>")
    reasoner = interp.load(model_folder("gpt_oss", chat=CHAT + "{# <|channel|>analysis #}", special=special))
    assert (reasoner.config.begin, reasoner.config.end) == (KNOWN_MARKERS[1].begin, KNOWN_MARKERS[1].end)
    trace = reasoner.with_config(max_thought_tokens=4, max_answer_tokens=2).think(asked(1))[0]
    text = "".join(trace.tokens)
    assert (
        "<|channel|>analysis<|message|>" in text
        and text.count("<|end|><|start|>assistant<|channel|>final<|message|>") == 1
    )
    for side in ("begin", "end"):
        output = [place for place in trace.places if place.startswith(side)]
        assert len(output) > 2 and output[-1] == side and set(output[:-1]) == {f"{side} marker"}


@pytest.mark.parametrize("pad", [True, False])
@pytest.mark.parametrize("bos", [True, False])
def test_tokenizers_without_padding_or_beginning(pad, bos, model_folder, asked):
    reasoner = interp.load(model_folder("llama", pad=pad, bos=bos, chat=THINKING_CHAT))
    made = reasoner.with_config(max_thought_tokens=5, max_answer_tokens=2)
    together, alone = made.think(asked(4)), made.think(asked(4), batch_size=1)
    assert [t.token_ids for t in together] == [t.token_ids for t in alone]
    assert (together[0].tokens[0] == "<bos>") is bos


def test_a_tokenizer_whose_unknown_token_is_its_end_can_be_used(model_folder, tmp_path, asked):
    folder = copied(model_folder("gpt2", bos=False), tmp_path)
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({**config, "unk_token": "<eos>", "bos_token": "<eos>"}), encoding="utf-8"
    )
    reasoner = interp.load(folder).with_config(max_thought_tokens=3, max_answer_tokens=2)
    assert reasoner.tokenizer.unk_token_id == reasoner.tokenizer.eos_token_id
    assert len(reasoner.think(asked(2))) == 2


@pytest.mark.parametrize(
    ("question", "message"),
    [("", "empty question"), (" \n\t ", "empty question"), ("why " * 25_000, "more than the 192 positions")],
)
def test_questions_that_are_refused(question, message, model_folder, asked):
    from dataclasses import replace

    reasoner = interp.load(model_folder("qwen3", chat=THINKING_CHAT))
    with pytest.raises(UsageError, match=message) as found:
        reasoner.think([replace(asked(1)[0], question=question)])
    assert len(str(found.value)) < 500


def test_weights_that_are_not_finite_are_refused(model_folder, tmp_path):
    folder = copied(model_folder("llama"), tmp_path)
    state = load_file(folder / "model.safetensors")
    state["model.layers.1.mlp.up_proj.weight"][3, 4] = float("nan")
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(StoreError, match=r"not finite, first in model\.layers\.1\.mlp\.up_proj\.weight"):
        interp.load(folder)


def test_pickle_is_refused_unless_it_is_trusted(model_folder, tmp_path):
    folder = copied(model_folder("llama"), tmp_path)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UsageError, match=r"got pickle \(pytorch_model\.bin\).*--allow-pickle"):
        interp.load(folder)
    assert interp.load(folder, allow_pickle=True).kind == "text"


class Harm:
    def __reduce__(self):
        return (Path.touch, (Path("harm-was-done"),))


def test_code_in_a_pickle_is_not_run_even_when_it_is_trusted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"transformer.wte.weight": Harm()}, tmp_path / "checkpoint_1")
    with pytest.raises(StoreError, match="cannot be read as a state dict"):
        interp.load(tmp_path / "checkpoint_1", allow_pickle=True)
    assert not (tmp_path / "harm-was-done").exists()


def test_impossible_options_are_refused(model_folder):
    with pytest.raises(UsageError, match="float32, float16 or bfloat16"):
        interp.load(model_folder("llama"), dtype="int8")
    with pytest.raises(UsageError, match="device 'warp:9' cannot be used here"):
        interp.load(model_folder("llama"), device="warp:9")


@pytest.fixture
def coconut_state(model_folder):
    """A GPT-2 with Coconut's three tokens: its folder and its state dict."""
    folder = model_folder("gpt2", special=COCONUT_TOKENS)
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return folder, {name: value.clone() for name, value in model.state_dict().items()}


def tokenizer_of(folder, out, without=()):
    for file in Path(folder).glob("tokenizer*"):
        shutil.copy(file, out)
    shutil.copy(Path(folder) / "config.json", out)
    return out


@pytest.mark.parametrize("suffix", ["", ".safetensors"])
def test_a_coconut_checkpoint_thinks_in_continuous_thoughts(suffix, coconut_state, tmp_path, asked):
    """In the form of the reference code, against a straightforward uncached loop on the model itself."""
    folder, state = coconut_state
    wrapped = {f"base_causallm.{name}": value for name, value in state.items()} | {
        "embedding.weight": state["transformer.wte.weight"]
    }
    file = tokenizer_of(folder, tmp_path) / f"checkpoint_33{suffix}"
    if suffix:
        save_file({name: value.clone() for name, value in wrapped.items()}, file)
    else:
        torch.save(wrapped, file)
        with pytest.raises(UsageError, match="is a pickle"):
            interp.load(tmp_path)
    reasoner = interp.load(tmp_path, allow_pickle=not suffix)
    assert reasoner.kind == "continuous" and reasoner.config.thoughts == 6
    assert [each.what for each in reasoner.loaded.unsure] == ["thoughts"]
    trace = reasoner.think(asked(1))[0]
    assert trace.tokens[trace.channel.index("latent") - 1] == COCONUT_TOKENS[0] and trace.channel.count("latent") == 6
    with quiet():
        plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    n = trace.channel.index("latent")
    with torch.no_grad():
        sequence = plain.get_input_embeddings()(torch.tensor([trace.token_ids[:n]]))
        for k in range(6):
            last = plain(inputs_embeds=sequence, output_hidden_states=True, use_cache=False).hidden_states[-1][:, -1:]
            torch.testing.assert_close(torch.tensor(trace.latents[k]), last[0, 0], atol=1e-4, rtol=1e-4)
            sequence = torch.cat([sequence, last], dim=1)


def test_a_codi_checkpoint_brings_its_projection_and_its_adapters(model_folder, tmp_path, asked):
    folder = model_folder("gpt2")
    with quiet():
        plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        n_vocab = plain.config.vocab_size
        plain.resize_token_embeddings(n_vocab + 3)
    generator = torch.Generator().manual_seed(0)

    def some(*shape):
        return torch.randn(*shape, generator=generator) * 0.3

    adapted = "transformer.h.0.attn.c_attn"
    state = {}
    for name, value in plain.state_dict().items():
        held = name.replace(adapted, f"{adapted}.base_layer")
        state[f"codi.base_model.model.{held}"] = value.clone()
    down, up = some(4, 32), some(96, 4)
    state[f"codi.base_model.model.{adapted}.lora_A.default.weight"] = down
    state[f"codi.base_model.model.{adapted}.lora_B.default.weight"] = up
    projection = torch.nn.Sequential(
        torch.nn.Dropout(0.0), torch.nn.Linear(32, 48), torch.nn.GELU(), torch.nn.Linear(48, 32)
    )
    projection.add_module("ln", torch.nn.LayerNorm(32))
    state |= {f"prj.{name}": value.clone() for name, value in projection.state_dict().items()}
    save_file({name: value.contiguous() for name, value in state.items()}, tmp_path / "model.safetensors")
    tokenizer_of(folder, tmp_path)
    with pytest.raises(UsageError, match="lora_alpha"):
        interp.load(tmp_path)
    reasoner = interp.load(tmp_path, lora_alpha=8, reasoner={"thoughts": 3})
    assert (reasoner.kind, reasoner.config.projection, reasoner.config.thoughts) == ("continuous", 48, 3)
    trace = reasoner.think(asked(1))[0]
    plain.transformer.h[0].attn.c_attn.weight.data += (8 / 4) * (up @ down).T
    n = trace.channel.index("latent")
    assert trace.token_ids[n - 1] == n_vocab + 1, "CODI's second added row opens the thought"
    with torch.no_grad():
        sequence = plain.get_input_embeddings()(torch.tensor([trace.token_ids[:n]]))
        for k in range(3):
            out = plain(inputs_embeds=sequence, output_hidden_states=True, use_cache=False).hidden_states[-1][:, -1:]
            fed = projection.eval()(out)
            torch.testing.assert_close(torch.tensor(trace.latents[k]), fed[0, 0], atol=1e-4, rtol=1e-4)
            sequence = torch.cat([sequence, fed], dim=1)


def test_a_bare_gpt2_says_what_it_lacks(coconut_state, tmp_path):
    _, state = coconut_state
    save_file(
        {f"base_causallm.{n}": v.clone() for n, v in state.items() if "lm_head" not in n},
        tmp_path / "model.safetensors",
    )
    with pytest.raises(UsageError, match="does not say how many"):
        interp.load(tmp_path)


def test_an_organism_keeps_its_own_config():
    reasoner = interp.load("chain-text")
    assert reasoner.loaded.unsure == []
    with pytest.raises(UsageError, match="max_thought_tokens"):
        reasoner.with_config(max_thought_tokens=0)
    assert ReasonerConfig(kind="text").prompt == "{question}"


def test_a_model_of_few_positions_keeps_room_for_its_thought(model_folder, tmp_path, asked, capsys, cotlens):
    folder = copied(model_folder("gpt2"), tmp_path)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "n_positions": 512}), encoding="utf-8")
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("wpe.weight"))
    repeats = -(-512 // len(weights[name]))
    save_file({**weights, name: weights[name].repeat(repeats, 1)[:512].contiguous()}, folder / "model.safetensors")
    given = {"kind": "text", "begin": "<think>", "end": "</think>", "prompt": "{question}"}
    reasoner = interp.load(folder, reasoner=given)
    assert (reasoner.config.max_answer_tokens, how(reasoner, "max_answer_tokens")) == (128, "assumed")
    assert "max_answer_tokens: 128 (a quarter of the model's 512 positions" in reasoner.loaded.line()
    trace = reasoner.think(asked(1))[0]
    assert trace.channel.count("thought") > 512 - 128 - 100 or "</think>" in trace.tokens
    assert trace.channel.count("thought") > 0
    own = interp.load(folder, reasoner={**given, "max_answer_tokens": 7})
    assert own.config.max_answer_tokens == 7 and "a quarter" not in own.loaded.line()
    questions = tmp_path / "q.jsonl"
    questions.write_text(json.dumps({"question": "1 + 1 =", "answer": "2"}), encoding="utf-8")
    capsys.readouterr()
    command = [
        "think",
        folder,
        "--reasoner",
        json.dumps(given),
        "--questions",
        questions,
        "--out",
        tmp_path / "t.parquet",
    ]
    result = cotlens(*command, "--max-answer-tokens", 512)
    assert result.code == 2
    assert "expected max_answer_tokens below the 512 positions" in result.error
    assert "choose fewer (--max-answer-tokens 128)" in result.error


@pytest.mark.parametrize("content", [b"a file", b"", b"1 + 1 = 2", b"{", b"PK", b"\x80\x02."])
def test_a_file_of_another_kind_is_no_checkpoint_even_when_pickle_is_trusted(content, tmp_path):
    file = tmp_path / "file.bin"
    file.write_bytes(content)
    with pytest.raises((StoreError, UsageError), match=r"cannot be read as a state dict|expected a state dict"):
        interp.load(file, allow_pickle=True)
