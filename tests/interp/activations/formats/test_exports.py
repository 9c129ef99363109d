"""Exports are read by other programs, and files of other programs become stores."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import interp
from interp.activations import Store
from interp.activations.formats.exports import export
from interp.activations.formats.imports import from_arrow, from_vllm
from interp.errors import StoreError, UsageError
from interp.traces import TraceSet

HERE = "blocks.1.hook_out"


@pytest.fixture(scope="module")
def halves(coconut: interp.Reasoner, traces: TraceSet, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The same activations in bfloat16, which neither format has."""
    folder = tmp_path_factory.mktemp("halves") / "s"
    return interp.capture(coconut, traces[:30], out=folder, dtype="bfloat16", shard_size=7)


def saelens_reads(folder: Path, hook: str, context_size: int, width: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Every context, as SAELens's own reader gives them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sae_lens.config import CacheActivationsRunnerConfig
        from sae_lens.training.activations_store import ActivationsStore

        settings = CacheActivationsRunnerConfig(
            dataset_path="none",
            model_name="none",
            model_batch_size=batch,
            hook_name=hook,
            d_in=width,
            training_tokens=10_000,
            context_size=context_size,
            new_cached_activations_path=str(folder),
            device="cpu",
        )
        reader = ActivationsStore.from_cache_activations(torch.nn.Identity(), settings)  # type: ignore[arg-type]
        acts, ids = [], []
        while True:
            try:
                found, tokens = reader.get_raw_llm_batch(raise_on_epoch_end=True)
            except StopIteration:
                return np.concatenate(acts), np.concatenate(ids)
            assert tokens is not None
            acts.append(found.numpy())
            ids.append(tokens.numpy())


@pytest.mark.parametrize("context_size", [1, 7])
def test_saelens_reads_what_is_exported(store: Store, tmp_path: Path, context_size: int) -> None:
    result = export(store, "saelens", tmp_path / "s", addresses=[HERE, "ln_final.hook_out"], context_size=context_size)
    kept = len(store.index) // context_size * context_size
    assert result.rows == kept and result.dropped == len(store.index) - kept
    for hook in (HERE, "ln_final.hook_out"):
        found, ids = saelens_reads(tmp_path / "s", hook, context_size, store.meta["d_model"], batch=1)
        np.testing.assert_array_equal(found, store.acts(hook)[:kept])
        np.testing.assert_array_equal(ids, store.index["token_id"].to_numpy()[:kept])


def test_saelens_reads_half_precision_as_its_exact_float32(halves: Store, tmp_path: Path) -> None:
    export(halves, "saelens", tmp_path / "s", addresses=[HERE])
    found, _ = saelens_reads(tmp_path / "s", HERE, 1, halves.meta["d_model"], batch=1)
    np.testing.assert_array_equal(found, halves.acts(HERE))


def test_any_arrow_reader_reads_what_is_exported(halves: Store, tmp_path: Path) -> None:
    import pyarrow as pa

    export(halves, "arrow", tmp_path / "a")
    tables = [pa.ipc.open_file(str(path)).read_all() for path in sorted((tmp_path / "a").glob("*.arrow"))]
    table = pa.concat_tables(tables)
    assert table.select(list(halves.index.columns)).to_pandas().equals(halves.index)
    for address in halves.addresses:
        column = np.stack(table[address.name].to_pandas().to_list())
        np.testing.assert_array_equal(column, halves.acts(address))


def test_an_arrow_export_comes_back_as_the_same_store(halves: Store, tmp_path: Path) -> None:
    export(halves, "arrow", tmp_path / "a")
    again = from_arrow(tmp_path / "a", halves.traces, tmp_path / "again")
    assert again.index.equals(halves.index) and again.validate() == []
    for address in halves.addresses:
        np.testing.assert_array_equal(again.acts(address), halves.acts(address))


def test_an_unfinished_store_is_not_exported(halves: Store, tmp_path: Path, cotlens: Callable) -> None:
    import shutil

    shutil.copytree(halves.path, tmp_path / "s")
    manifest = tmp_path / "s" / "manifest.jsonl"
    manifest.write_bytes(b"".join(manifest.read_bytes().splitlines(keepends=True)[:2]))
    ended = cotlens("capture", "export", tmp_path / "s", "--out", tmp_path / "e")
    assert ended.code == 5 and "Run `cotlens capture resume" in ended.error
    assert not (tmp_path / "e").exists()


def test_an_export_overwrites_nothing_and_leaves_nothing_half_written(
    store: Store, tmp_path: Path, full_after: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years", encoding="utf-8")
    with pytest.raises(UsageError, match="which exists already; choose another --out"):
        export(store, "saelens", tmp_path / "mine")
    with monkeypatch.context() as patched:
        full_after(0, patched)
        with pytest.raises(StoreError, match="The disk is full"):
            export(store, "saelens", tmp_path / "full", addresses=[HERE])
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "parquet"], "expected a known format, got 'parquet'"),
        (["--context-size", "0"], "context_size to be a whole number"),
        (["--context-size", "1000000"], "fewer than one context"),
        (["--address", "blocks.9.hook_out"], "expected a known address in this store"),
    ],
)
def test_bad_exports_are_refused(
    store: Store, tmp_path: Path, cotlens: Callable, arguments: list[str], message: str
) -> None:
    ended = cotlens("capture", "export", store.path, "--out", tmp_path / "e", *arguments)
    assert ended.code == 2 and message in ended.error
    assert not list(tmp_path.iterdir())


# --- vLLM -------------------------------------------------------------------------------------------------

LAYERS = [3, 1, 0]  # the output of the last block, of the first, and what enters the first, in no order


@pytest.fixture(scope="module")
def text() -> tuple[interp.Reasoner, TraceSet]:
    reasoner = interp.load("chain-text")
    return reasoner, reasoner.think(reasoner.task.generate(12, seed=0, split="test"))


def as_vllm_writes(reasoner: interp.Reasoner, traces: TraceSet, folder: Path, *, layers_first: bool = False) -> Path:
    """One file for each trace, as vLLM's connector writes it; the states are Hugging Face's own `hidden_states`.

    vLLM's layer k is what enters block k. Hugging Face's last one is normed, so it is taken before the final norm.
    """
    folder.mkdir()
    plain = reasoner.model.original_model
    for trace in traces:
        before: list[torch.Tensor] = []
        handle = plain.transformer.ln_f.register_forward_pre_hook(lambda m, a, seen=before: seen.append(a[0]))
        with torch.no_grad():
            out = plain(input_ids=torch.tensor([trace.token_ids], device=reasoner.device), output_hidden_states=True)
        handle.remove()
        states = [*out.hidden_states[:-1], before[0]]
        stacked = torch.stack([states[layer][0] for layer in LAYERS], dim=0 if layers_first else 1).cpu().contiguous()
        save_file(
            {"token_ids": torch.tensor(trace.token_ids), "hidden_states": stacked},
            folder / f"{trace.id:03d}.safetensors",
        )
    return folder


@pytest.mark.parametrize("layers_first", [False, True])
def test_what_vllm_extracts_is_what_capture_records(
    text: tuple[interp.Reasoner, TraceSet], tmp_path: Path, layers_first: bool
) -> None:
    reasoner, traces = text
    assert reasoner.model.cfg.n_layers == 3
    folder = as_vllm_writes(reasoner, traces, tmp_path / "vllm", layers_first=layers_first)
    result = from_vllm(sorted(folder.iterdir()), LAYERS, tmp_path / "imported", traces=traces)
    ours = interp.capture(
        reasoner, traces, out=tmp_path / "ours", sites=["blocks.0.hook_in", "blocks.0.hook_out", "blocks.2.hook_out"]
    )
    same = [column for column in ours.index if column not in ("shard", "row")]
    assert result.index[same].equals(ours.index[same]) and result.validate() == []
    assert {a.name for a in result.addresses} == {a.name for a in ours.addresses}
    for address in ours.addresses:
        np.testing.assert_allclose(result.acts(address), ours.acts(address), atol=1e-4)


def test_files_without_traces_become_traces_of_their_tokens(
    text: tuple[interp.Reasoner, TraceSet], tmp_path: Path, cotlens: Callable
) -> None:
    reasoner, traces = text
    folder = as_vllm_writes(reasoner, traces[:3], tmp_path / "vllm")
    ended = cotlens("capture", "import", folder, "--layers", "3,1,0", "--out", tmp_path / "s", "--json")
    assert ended.code == 0 and ended.json["positions"] == sum(map(len, traces[:3]))
    store = Store(tmp_path / "s")
    assert [t.token_ids for t in store.traces] == [t.token_ids for t in traces[:3]]
    assert set(store.index["channel"]) == {"prompt"}


def test_files_that_do_not_fit_are_refused(
    text: tuple[interp.Reasoner, TraceSet], traces: TraceSet, tmp_path: Path, cotlens: Callable
) -> None:
    reasoner, written = text
    folder = as_vllm_writes(reasoner, written[:2], tmp_path / "vllm")
    files = sorted(folder.iterdir())
    with pytest.raises(
        UsageError, match=r"holds hidden states \(\d+, 3, 128\); expected \(\d+ positions, 2 layers, d\)"
    ):
        from_vllm(files, [1, 2], tmp_path / "s")
    with pytest.raises(StoreError, match=r"no trace has its \d+ tokens"):
        from_vllm(files, LAYERS, tmp_path / "s", traces=traces)
    with pytest.raises(UsageError, match="expected layers to be different ids"):
        from_vllm(files, [1, 1, 2], tmp_path / "s")
    (folder / "z.safetensors").write_bytes(b"nothing")
    with pytest.raises(StoreError, match=r"z\.safetensors is not a file of vLLM's hidden states connector"):
        from_vllm(sorted(folder.iterdir()), LAYERS, tmp_path / "s")
    ended = cotlens("capture", "import", folder, "--out", tmp_path / "s")
    assert ended.code == 2 and "expected --layers, got none" in ended.error
    ended = cotlens("capture", "import", tmp_path, "--out", tmp_path / "s", "--layers", "1")
    assert ended.code == 2 and "no files to import" in ended.error
    assert not (tmp_path / "s").exists()
