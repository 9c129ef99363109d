"""Files of Jacobian lenses: another model's and damaged ones are refused, and the commands write and merge them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import interp
from interp.activations import Store
from interp.decoders.jacobian.fitting import fit_jacobians
from interp.decoders.jacobian.lens import JacobianLens, token_ids
from interp.decoders.jacobian.lens_file import LensFile
from interp.errors import StoreError, UsageError
from interp.traces import TraceSet


@pytest.fixture(scope="module")
def fitted(coconut: interp.Reasoner, traces: TraceSet) -> LensFile:
    return fit_jacobians(coconut, list(traces[:6]))


def test_a_lens_belongs_to_one_set_of_weights(
    coconut: interp.Reasoner, fitted: LensFile, tmp_path: Path, store: Store
) -> None:
    fitted.write(tmp_path / "lens.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lens = JacobianLens.load(tmp_path / "lens.pt", coconut)
    torch.testing.assert_close(lens.lens.matrices[1], fitted.matrices[1])
    other = interp.load("chain-coconut-hard")
    with pytest.raises(StoreError, match=r"of chain-coconut-hard \(weights \w+\), got one of chain-coconut \(weights"):
        JacobianLens.load(tmp_path / "lens.pt", other)
    assert JacobianLens.load(tmp_path / "lens.pt", other, transfer=True).lens.n_contexts == 6
    with pytest.raises(StoreError, match="this lens uses chain-coconut-hard's unembedding"):
        JacobianLens(other).fit(store, store.address("blocks.0.hook_out"), store.index)
    wide = LensFile({0: torch.eye(64)}, 1)
    wide.write(tmp_path / "wide.pt")
    with pytest.raises(StoreError, match=r"of width 128 for layers 0 to 1 .*, got width 64 and layers 0 to 0"):
        JacobianLens.load(tmp_path / "wide.pt", coconut)
    LensFile({2: torch.eye(128)}, 1).write(tmp_path / "deep.pt")
    with pytest.raises(StoreError, match="got width 128 and layers 2 to 2"):
        JacobianLens.load(tmp_path / "deep.pt", coconut)
    LensFile({0: torch.eye(128)}, 1, metadata={"target_layer": 1}).write(tmp_path / "short.pt")
    with pytest.raises(StoreError, match="that ends at layer 2, got 1"):
        JacobianLens.load(tmp_path / "short.pt", coconut)


class Harmful:
    """Something that a pickle can hold and that runs code when it is read."""

    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("ran"),))


@pytest.mark.parametrize(
    ("content", "pattern"),
    [
        ({"J": {0: Harmful()}}, "cannot be read safely as tensors"),
        ([1, 2], "with J, rows or jacobian_sum, got something else"),
        ({"J": {}, "n_prompts": 1, "d_model": 4}, "is damaged"),
        ({"J": {"0": torch.eye(4)}, "n_prompts": 1, "d_model": 4}, "is damaged"),
        ({"J": {0: torch.eye(4)}, "n_prompts": "1", "d_model": 4}, "is damaged"),
        ({"J": {0: torch.eye(4)}, "n_prompts": 1, "d_model": 4, "metadata": [1]}, "is damaged"),
        ({"J": {0: torch.eye(4)}, "n_prompts": 1, "d_model": 5}, r"J\[0\] in .* of shape \(5, 5\), got shape \(4, 4\)"),
        ({"J": {0: torch.full((4, 4), torch.inf)}, "n_prompts": 1, "d_model": 4}, "expected finite numbers in J"),
        ({"J": {0: 7}, "n_prompts": 1}, r"is damaged|got int"),
        ({"rows": {0: torch.eye(4)}, "candidates": [1], "n_prompts": 1, "d_model": 4}, r"of shape \(17, 4\)"),
        ({"jacobian_sum": {0: torch.eye(4)}, "n_done": 0}, "a fit of at least one context"),
    ],
)
def test_damaged_and_hostile_files_are_refused_in_one_line(
    content: Any, pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(content, tmp_path / "lens.pt")
    with pytest.raises(StoreError, match=pattern) as error:
        LensFile.read(tmp_path / "lens.pt")
    assert "\n" not in str(error.value) and not (tmp_path / "ran").exists()


def test_files_that_are_no_lenses(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="got no file"):
        LensFile.read(tmp_path / "nothing.pt")
    (tmp_path / "text.pt").write_text("hello", encoding="utf-8")
    with pytest.raises(StoreError, match="cannot be read safely"):
        LensFile.read(tmp_path / "text.pt")


def test_tokens_are_single(coconut: interp.Reasoner, traces: TraceSet) -> None:
    assert token_ids(coconut, ["3"]) == [coconut.tokenizer.convert_tokens_to_ids("3")]
    with pytest.raises(UsageError, match=r"expected tokens of chain-coconut, got '3 4', which is 2"):
        token_ids(coconut, ["3 4"])
    with pytest.raises(UsageError, match="at least two candidate tokens, got 1"):
        JacobianLens(coconut, candidates=["3", "3"]).fit_traces(traces[:1])


def test_the_commands_fit_merge_and_read(
    traces: TraceSet, store: Store, coconut: interp.Reasoner, tmp_path: Path, cotlens: Callable[..., Any]
) -> None:
    traces[:4].to_parquet(tmp_path / "a.parquet")
    traces[4:6].to_parquet(tmp_path / "b.parquet")
    for name in "ab":
        ended = cotlens(
            "lens", "fit", "chain-coconut", "--traces", tmp_path / f"{name}.parquet", "--out", tmp_path / f"{name}.pt"
        )
        assert ended.code == 0 and "Jacobian lens of chain-coconut, layers 0 to 1, width 128" in ended.out
    ended = cotlens("lens", "merge", tmp_path / "a.pt", tmp_path / "b.pt", "--out", tmp_path / "ab.pt", "--json")
    assert ended.code == 0 and ended.json["contexts"] == 6 and ended.json["finished"]
    whole = fit_jacobians(coconut, list(traces[:6]))
    torch.testing.assert_close(LensFile.read(tmp_path / "ab.pt").matrices[0], whole.matrices[0], rtol=1e-4, atol=1e-5)
    ended = cotlens("lens", "show", tmp_path / "ab.pt", "--json")
    assert ended.json["metadata"]["weights"] == coconut.weights
    read = cotlens(
        *("decode", "run", store.path, "-m", "logit_lens", "--lens", tmp_path / "ab.pt"),
        *("--out", tmp_path / "read.parquet", "--json"),
    )
    assert read.code == 0 and {row["method"] for row in read.json["scores"]} == {"logit_lens", "jacobian_lens"}
    again = cotlens("lens", "fit", "chain-coconut", "--traces", tmp_path / "a.parquet", "--out", tmp_path / "a.pt")
    assert again.code == 2 and "which exists" in again.error
    assert cotlens("lens", "merge", tmp_path / "a.pt", tmp_path / "a.pt", "--out", tmp_path / "aa.pt").code == 2


def test_the_command_fits_to_texts_and_to_few_tokens(tmp_path: Path, cotlens: Callable[..., Any]) -> None:
    (tmp_path / "texts.txt").write_text("3 +4 *2 =\n5 +1 +1 =\n\n7 *3 +2 =\n", encoding="utf-8")
    base = ("lens", "fit", "chain-text", "--texts", tmp_path / "texts.txt", "--skip-first", 0)
    ended = cotlens(*base, "--out", tmp_path / "few.pt", "--candidate", "3", "--candidate", "4", "--json")
    assert ended.code == 0 and ended.json["contexts"] == 3 and len(ended.json["candidates"]) == 2
    assert cotlens(*base, "--out", tmp_path / "x.pt", "--channels", "latent").code == 2
    assert cotlens("lens", "fit", "chain-text", "--out", tmp_path / "x.pt").code == 2
    missing = cotlens("lens", "fit", "chain-text", "--texts", tmp_path / "none.txt", "--out", tmp_path / "x.pt")
    assert missing.code == 5 and "expected a text file" in missing.error
