"""`cotlens import traces`, and what runs on its traces: captures, probes, decoders, faithfulness."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import interp
from interp.traces import TraceSet
from tests.interp.transcripts.conversations import FORMATS, conversation

N = 80


@pytest.fixture(scope="module")
def chats(chain_text: interp.Reasoner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Replies of chain-text in OpenAI's form, as a server would have written them."""
    traces = chain_text.think(chain_text.task.generate(N, seed=6))
    records = [
        {
            "messages": [
                {"role": "user", "content": trace.problem.question},
                {"role": "assistant", "reasoning": trace.text.removesuffix(trace.answer), "content": trace.answer},
            ],
            "answer": trace.problem.answer,
            "values": [step.value for step in trace.problem.steps],
            "parity": str(int(trace.problem.answer) % 2),
        }
        for trace in traces
    ]
    path = tmp_path_factory.mktemp("chats") / "chats.jsonl"
    path.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    return path


def test_imported_traces_are_captured_probed_decoded_and_tested(
    chats: Path, tmp_path: Path, cotlens: Callable[..., Any]
) -> None:
    out, store = tmp_path / "traces.parquet", tmp_path / "store"
    ended = cotlens(
        "import", "traces", chats, "--out", out, "--model", "chain-text", "--written-by", "a server", "--json"
    )
    assert ended.code == 0, ended.err
    record = ended.json
    assert record["formats"] == {str(chats): "chat messages (JSONL)"} and record["traces"] == N
    assert record["accuracy"] > 0.95 and record["graded"] == N and record["agreement"]["greedy"]["value"] > 0.99
    assert record["fields"] == {"parity": "label of each trace"}
    ended = cotlens("capture", "run", "chain-text", out, "--out", store)
    assert ended.code == 0 and "were written by a server" in ended.err
    ended = cotlens("probe", "sweep", store, "--target", "parity", "--place", "answer", "--splits", 1, "--json")
    assert ended.code == 0, ended.err
    ended = cotlens("decode", "run", store, "--method", "logit_lens", "--out", tmp_path / "d.parquet", "--json")
    assert ended.code == 0, ended.err
    ended = cotlens("causal", "faithfulness", "chain-text", "--traces", out, "--n", 12, "--json")
    assert ended.code == 0 and "chain-text did not write 12 of 12 texts" in ended.err, ended.err
    assert "12 of 12 say what the written answers say" in ended.json["imported"]
    tests = {row["test"]: row for row in ended.json["tests"]}
    assert tests["as written"]["share"] == 1.0 and tests["another problem's thought"]["share"] < 0.5


def test_what_is_refused_is_counted_and_the_rest_is_kept(
    chat_folder: Path, tmp_path: Path, cotlens: Callable[..., Any]
) -> None:
    path, out = tmp_path / "c.jsonl", tmp_path / "t.parquet"
    lines = [{"messages": conversation(0, content="It is 4."), "answer": "4"}, {"messages": conversation(1)[:1]}]
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    ended = cotlens("import", "traces", path, "--out", out, "--model", chat_folder, "--no-measure")
    assert ended.code == 3 and len(TraceSet.from_parquet(out)) == 1
    assert "1 transcript refused, the others are in" in ended.error
    assert "c.jsonl line 2: its last message is the user's, so that there is no reply" in ended.error
    assert "1 trace (1.000 of 1 right)" in ended.out and "assumed written by: another program (1)" in ended.out
    ended = cotlens("import", "traces", path, "--out", out, "--model", chat_folder)
    assert ended.code == 2 and "expected a new file for --out" in ended.error
    old, new = tmp_path / "old.parquet", tmp_path / "new.parquet"
    ended = cotlens("import", "traces", path, "--out", new, "--model", chat_folder, "--no-measure", "--no-system")
    ended = cotlens("import", "traces", path, "--out", old, "--model", chat_folder, "--no-pass", "--without-system")
    tokens = [TraceSet.from_parquet(file)[0].token_ids for file in (out, new, old)]
    assert tokens[0] == tokens[1] == tokens[2] and old.read_bytes() == new.read_bytes()
    assert np.isnan(TraceSet.from_parquet(old)[0].entropy).all()
    assert "--no-pass is now --no-measure" in ended.err
    assert "--without-system is now --no-system" in ended.err
    ended = cotlens("import", "traces", tmp_path / "no", "--out", tmp_path / "n.parquet", "--model", chat_folder)
    assert ended.code == 2 and "which does not exist; check the path" in ended.error
    path.write_text('{"text": "hello"}', encoding="utf-8")
    ended = cotlens("import", "traces", path, "--out", tmp_path / "n.parquet", "--model", chat_folder)
    assert ended.code == 2 and "expected chat messages as JSON or JSONL" in ended.error
    assert not (tmp_path / "n.parquet").exists()


@pytest.mark.slow
def test_smollm2_reads_a_thought_that_another_model_wrote(tmp_path: Path, cotlens: Callable[..., Any]) -> None:
    from interp.errors import CotlensError
    from interp.loading.convert import get_named_model

    try:
        get_named_model("smollm2")
    except CotlensError as error:
        pytest.skip(f"SmolLM2 cannot be fetched: {error}")
    out, thinks = (
        tmp_path / "t.parquet",
        '{"kind": "text", "begin": "<think>", "end": "</think>", "max_answer_tokens": 12}',
    )
    chat = FORMATS["reasoning"](tmp_path)
    ended = cotlens("import", "traces", chat, "--out", out, "--model", "smollm2")
    assert ended.code == 2 and "smollm2 is loaded without thinking markers" in ended.error
    ended = cotlens("import", "traces", chat, "--out", out, "--model", "smollm2", "--reasoner", thinks, "--json")
    assert ended.code == 0, ended.err
    record = ended.json
    assert record["traces"] == 2 and record["accuracy"] == 1.0
    assert record["assumed"]["text"] == "2 of 2 are reproduced exactly by the model's tokenizer"
    assert -6 < record["agreement"]["logprob"]["value"] < 0
    store = tmp_path / "store"
    options = ("--layers", "15", "--reasoner", thinks)
    assert cotlens("capture", "run", "smollm2", out, "--out", store, *options).code == 0
    ended = cotlens("causal", "faithfulness", "smollm2", "--traces", out, "--reasoner", thinks, "--json")
    assert ended.code == 0 and "smollm2 did not write 2 of 2 texts" in ended.err, ended.err
