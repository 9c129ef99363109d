"""`cotlens think --questions`: a foreign model on the user's own questions, with resumption, capture and probes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import interp
from interp.activations import Store
from interp.errors import StoreError, UsageError
from interp.reasoners.resumable import parts_folder, think_to_file
from interp.reasoners.spans import token_texts
from interp.traces import TraceSet

CHAT = "{# <think> </think> #}{% for m in messages %}<|user|>{{ m['content'] }}{% endfor %}<|assistant|>"
LIMITS = ["--max-thought-tokens", "10", "--max-answer-tokens", "3", "--batch-size", "16"]


@pytest.fixture(scope="module")
def folder(model_folder: Callable[..., Path]) -> Path:
    return model_folder("qwen3", chat=CHAT)


@pytest.fixture(scope="module")
def short(folder: Path) -> interp.Reasoner:
    return interp.load(folder).with_config(max_thought_tokens=10, max_answer_tokens=3)


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """Sixty good lines and a few that are broken in every way."""
    good = [{"question": f"What is {k} plus {k % 7}?", "answer": str((k + k % 7) % 3)} for k in range(60)]
    lines = [json.dumps(line) for line in good]
    lines[20:20] = ['{"question": "half a line', json.dumps({"question": "", "answer": "1"})]
    lines += [json.dumps({"question": "why " * 25_000, "answer": "1"})]
    lines += [json.dumps({"question": "bell \x07, escape \x1b[31m and zero \x00 in it?", "answer": "1"})]
    path = tmp_path / "questions.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_questions_of_a_file_lead_to_a_probe_sweep(
    cotlens: Callable, folder: Path, questions: Path, tmp_path: Path
) -> None:
    out, store = tmp_path / "t.parquet", tmp_path / "store"
    result = cotlens("think", folder, "--questions", questions, "--out", out, *LIMITS, "--json")
    assert result.code == 3, "lines that were left out make it partial"
    assert result.json["traces"] == 61 and len(result.json["left_out"]) == 3
    for said in ("line 21: it is not JSON", "line 22: its question is empty", "line 63: the question 'why why"):
        assert said in result.error
    assert "3 lines of " in result.error and ".. Put the corrected lines" not in result.error
    assert len(result.error) < 1500 and "\x1b" not in result.err + result.out
    traces = TraceSet.from_parquet(out)
    assert traces[-1].problem.question.startswith("bell \x07") and not parts_folder(out).exists()
    for trace in traces:
        lengths = {len(each) for each in (trace.channel, trace.step, trace.thought, trace.entropy, trace.sentence)}
        assert lengths == {len(trace)}
        sampled = np.isfinite(trace.logprob)
        # All that the model wrote itself has its probability; what was put there for it has none.
        assert all(c in ("thought", "answer", "special") for c, s in zip(trace.channel, sampled, strict=True) if s)
        assert all(s for c, s in zip(trace.channel, sampled, strict=True) if c in ("thought", "answer"))
        assert np.isfinite([e for e, c in zip(trace.entropy, trace.channel, strict=True) if c != "prompt"]).all()
    assert cotlens("capture", "run", folder, out, "--out", store, "--sites", "resid").code == 0
    opened = Store(store)
    assert {"thought", "special", "answer", "prompt"} == set(opened.index["channel"])
    assert not (opened.index["token"] == "<bos>").any(), "the attention sink is left out"
    for trace, rows in opened.index.groupby("trace"):
        assert rows["sentence"].tolist() == [traces[int(trace)].sentence[at] for at in rows["position"]]
    second = opened.rows(sentence=2)
    assert len(second) and set(second["channel"]) == {"thought"} and set(second["sentence"]) == {2}
    assert opened.acts("ln_final.hook_out", second).shape == (len(second), opened.meta["d_model"])
    with pytest.raises(UsageError, match=r"expected sentences from 1 to \d+, got \[99\]"):
        opened.rows(sentence=99)
    swept = cotlens("probe", "sweep", store, "--target", "answer", "--place", "begin", "--place", "thought 1", "--json")
    assert swept.code == 0, swept.err
    assert swept.json["cells"] == 2 * len(opened.addresses) and swept.json["best"][0]["n"] > 0


def test_an_interrupted_run_resumes_and_writes_the_same_file(
    short: interp.Reasoner, asked: Callable, tmp_path: Path
) -> None:
    problems, sampling = asked(20), {"batch_size": 2, "temperature": 1.0, "top_p": 0.9, "seed": 4}
    whole = think_to_file(short, problems, tmp_path / "whole.parquet", **sampling)

    def cut(done: int, total: int) -> None:
        if done >= 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        think_to_file(short, problems, tmp_path / "cut.parquet", progress=cut, **sampling)
    assert sorted(p.name for p in parts_folder(tmp_path / "cut.parquet").iterdir()) == [
        "00000000.parquet",
        "00000008.parquet",
        "thinking.json",
    ]
    with pytest.raises(StoreError, match="unfinished traces with another sampling"):
        think_to_file(short, problems, tmp_path / "cut.parquet", **{**sampling, "seed": 5})
    reported: list[int] = []
    again = think_to_file(
        short, problems, tmp_path / "cut.parquet", progress=lambda done, total: reported.append(done), **sampling
    )
    assert reported == [16, 20], "only the last queue, of four batches, is thought again"
    assert (tmp_path / "cut.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert [t.token_ids for t in again] == [t.token_ids for t in whole]
    with pytest.raises(UsageError, match="exists already"):
        think_to_file(short, problems, tmp_path / "cut.parquet", **sampling)


def test_a_killed_run_resumes_without_losing_or_repeating_traces(
    start: Callable, cotlens: Callable, folder: Path, tmp_path: Path
) -> None:
    """After SIGKILL, as when memory runs out, the same command resumes and writes the file of an undisturbed run."""
    questions, out = tmp_path / "q.jsonl", tmp_path / "t.parquet"
    lines = [json.dumps({"question": f"What is {k} plus {k % 7}?", "answer": str(k)}) for k in range(16)]
    questions.write_text("\n".join(lines), encoding="utf-8")
    options = ["--questions", questions, *LIMITS[:4], "--batch-size", "1", "--temperature", "0.8", "--seed", "3"]
    program = "import sys; from cotlens.cli import main; main(sys.argv[1:])"
    running = start(program, "think", folder, "--out", out, *options)
    deadline = time.monotonic() + 120
    while len(list(parts_folder(out).glob("*.parquet"))) < 2:
        assert running.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    running.kill()
    running.wait()
    kept = sorted(parts_folder(out).glob("*.parquet"))
    assert 2 <= len(kept) < 16 and not out.exists()
    before = [trace.token_ids for path in kept for trace in TraceSet.from_parquet(path)]
    again = cotlens("think", folder, "--out", out, *options, "--json")
    assert again.code == 0 and again.json["traces"] == 16
    assert not parts_folder(out).exists()
    assert cotlens("think", folder, "--out", tmp_path / "whole", *options).code == 0
    assert out.read_bytes() == (tmp_path / "whole").read_bytes()
    resumed = TraceSet.from_parquet(out)
    assert [trace.token_ids for trace in resumed][: len(before)] == before
    assert [trace.problem.meta["line"] for trace in resumed] == list(range(1, 17))


def test_sampling_depends_on_the_seed_alone_and_stays_in_the_nucleus(short: interp.Reasoner, asked: Callable) -> None:
    def texts(**options: object) -> list:
        return [t.token_ids for t in short.think(asked(6), temperature=1.5, **options)]  # type: ignore[arg-type]

    assert texts(seed=1, top_p=0.8) == texts(seed=1, top_p=0.8, batch_size=2) != texts(seed=2, top_p=0.8)
    assert texts(seed=1, top_p=1e-9) == [t.token_ids for t in short.think(asked(6))], "the smallest nucleus is greedy"
    with pytest.raises(UsageError, match="expected top_p to be above 0"):
        short.think(asked(1), top_p=0.0)


def test_a_nucleus_is_the_smallest_set_with_the_given_probability() -> None:
    import torch

    from interp.reasoners.rollouts.sampling import draw

    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]])).expand(4000, 4)
    uniform = np.random.default_rng(0).random(4000).tolist()
    for top_p, kept in ((0.4, [1, 0, 0, 0]), (0.6, [0.625, 0.375, 0, 0]), (1.0, [0.5, 0.3, 0.15, 0.05])):
        shares = torch.bincount(draw(logits, 1.0, top_p, uniform), minlength=4) / 4000
        np.testing.assert_allclose(shares, kept, atol=0.03)
        assert ((shares > 0) == (torch.tensor(kept) > 0)).all()


def test_answers_stop_at_given_tokens_and_texts(short: interp.Reasoner, asked: Callable) -> None:
    long = short.with_config(max_answer_tokens=8, eos="")
    first = next(t for t in long.think(asked(4)) if len(set(t.token_ids[-8:])) > 2)
    answer = [i for i, c in zip(first.token_ids, first.channel, strict=True) if c == "answer"]
    token = long.tokenizer.convert_ids_to_tokens(answer[2])
    before = long.with_config(stops=(token,)).think(asked(4))[first.id]
    kept = [i for i, c in zip(before.token_ids, before.channel, strict=True) if c == "answer"]
    assert kept == answer[: answer.index(answer[2])], "a token is stopped before"
    text = long.tokenizer.decode(answer[1:3])
    if text not in long.tokenizer.get_vocab():
        after = long.with_config(stops=(text,)).think(asked(4))[first.id]
        output = long.tokenizer.decode(
            [i for i, c in zip(after.token_ids, after.channel, strict=True) if c == "answer"]
        )
        assert text in output and len(output) <= len(long.tokenizer.decode(answer[:3])), "a text is stopped after"


def test_sentences_and_steps_map_to_their_tokens(short: interp.Reasoner, asked: Callable) -> None:
    from interp.reasoners.rollouts.batch import Row
    from interp.reasoners.spans import written_steps
    from interp.traces import Channel

    text = "First café 3. Then it is 6 🙂! So the answer"
    ids = short.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert "".join(token_texts(short.tokenizer, ids)) == text
    row = Row(token_ids=[9, *ids], channel=[Channel.PROMPT, *[Channel.THOUGHT] * len(ids)])
    written = written_steps(short.tokenizer, row, asked(4)[3], correct=True)  # its gold step's value is 6
    step, sentence = written.step, written.sentence
    assert step[0] == sentence[0] == 0 and sorted(set(sentence[1:])) == [1, 2, 3]
    output = dict.fromkeys((1, 2, 3), "")
    for n, piece in zip(sentence[1:], token_texts(short.tokenizer, ids), strict=True):
        output[n] += piece
    assert [output[n].strip() for n in (1, 2, 3)] == ["First café 3.", "Then it is 6 🙂!", "So the answer"]
    assert set(step[1:]) == {1}
    until = "".join(token_texts(short.tokenizer, row.token_ids[1 : written.value_positions[0] + 1]))
    assert until == "First café 3. Then it is 6"


def test_contradicting_options_are_refused(cotlens: Callable, folder: Path, questions: Path, tmp_path: Path) -> None:
    out = ["--out", tmp_path / "t.parquet"]
    result = cotlens("think", folder, "--questions", questions, "--task", "chain:n=3", *out)
    assert result.code == 2 and "got both" in result.error
    result = cotlens("think", folder, "--questions", tmp_path / "nowhere.jsonl", *out)
    assert result.code == 5 and "expected a JSONL file at" in result.error
    result = cotlens("think", folder, "--questions", questions, "--reasoner", "not json", *out)
    assert result.code == 2 and "expected JSON or the path of a JSON file after --reasoner" in result.error
    assert list(tmp_path.iterdir()) == [questions]


def test_doctor_reports_on_a_model(cotlens: Callable, folder: Path, model_folder: Callable[..., Path]) -> None:
    result = cotlens("doctor", folder, "--json")
    assert result.code == 0 and result.json["kind"] == "text" and result.json["config"]["end"] == "</think>"
    assert {"kind", "prompt", "beginning of text", "end of text", "dtype", "device", "logits"} <= {
        each["what"] for each in result.json["findings"]
    }
    output = cotlens("doctor", model_folder("mistral", special=()))
    assert output.code == 0 and "unknown" in output.out and "no thinking markers" in output.out


def test_assumptions_about_a_model_are_one_line_on_stderr(
    cotlens: Callable, model_folder: Callable[..., Path], questions: Path, tmp_path: Path
) -> None:
    folder = model_folder("mistral", special=())
    result = cotlens("think", folder, "--questions", questions, "--out", tmp_path / "t", "--max-answer-tokens", "2")
    notes = [line for line in result.err.splitlines() if line.startswith("note: ") and "did not end" not in line]
    assert len(notes) == 1 and "no thinking markers" in notes[0] and f"cotlens doctor {folder}" in notes[0]


def test_what_was_cut_off_is_said(cotlens: Callable, tmp_path: Path) -> None:
    think = ("think", "chain-text", "--task", "chain:n=20")
    whole = cotlens(*think, "--out", tmp_path / "whole.parquet")
    assert whole.code == 0 and "did not end within" not in whole.err
    cut = cotlens(*think, "--max-thought-tokens", 1, "--out", tmp_path / "cut.parquet", "--json")
    assert "note: 20 of 20 thoughts did not end within 1 token; --max-thought-tokens sets the limit" in cut.err
    assert cut.json["cut_off"] == {"thought": [20, 1]}
