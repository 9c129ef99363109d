"""Reading pages that are drawn without a browser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from interp.activations import Store
from interp.decoders.jacobian.lens import JacobianLens
from interp.decoders.tuned_lens import TunedLens


@pytest.fixture(scope="session")
def said() -> Callable[[AppTest], str]:
    """Return all text of a page, as it is read."""

    def text(at: AppTest) -> str:
        kinds = ("title", "header", "subheader", "markdown", "caption", "info", "warning", "error", "code")
        words = [str(element.value) for kind in kinds for element in getattr(at, kind)]
        words += [element.proto.body for element in at.get("html")]
        return "\n".join(words).replace("\\", "").replace("\u2060", "")

    return text


@pytest.fixture(scope="session")
def lenses(demo_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with lenses of the run's model, one of another, and a damaged one."""
    folder = tmp_path_factory.mktemp("home") / "lenses"
    folder.mkdir()
    store = Store(demo_run / "store")
    reasoner = store.load_reasoner()
    tuned = TunedLens(reasoner, updates=20)
    for address in store.addresses[:2]:
        tuned.fit_rows(store, address, store.index)
    tuned.save(folder / "tuned")
    JacobianLens(reasoner).fit_traces(store.traces[:4]).save(folder / "jacobian.pt")
    JacobianLens(reasoner, candidates=["1", "2"]).fit_traces(store.traces[:4]).save(folder / "few.pt")
    foreign = JacobianLens.load(folder / "jacobian.pt", reasoner).lens
    other = replace(foreign, metadata=foreign.metadata | {"weights": "0123", "reasoner": "chain-text"})
    other.write(folder / "other.pt")
    return folder
