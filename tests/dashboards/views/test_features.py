"""The page of SAE features: names beside random directions, evidence, search, and live edits beside their control."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from dashboards.features.figures import density
from dashboards.features.tables import name_features, open_sae

Open = Callable[..., AppTest]
Said = Callable[[AppTest], str]


@pytest.fixture
def own(demo_run: Path, tmp_path: Path) -> Path:
    """A folder with a store and its SAE, which a test may damage."""
    for part in ("store", "sae"):
        shutil.copytree(demo_run / part, tmp_path / part)
    return tmp_path


def table(at: AppTest) -> pd.DataFrame:
    """The list of features."""
    return next(frame.value for frame in at.dataframe if "closest concept" in frame.value)


def test_names_stand_beside_random_directions(open_view: Open, said: Said, demo_run: Path) -> None:
    at = open_view("features")
    assert not at.error
    names = name_features(open_sae(demo_run / "sae", demo_run / "store"))
    n_named = int(names["name"].notna().sum())
    assert f"{n_named} of {len(names)} features have a name" in said(at)
    assert "Of as many random directions" in said(at)
    assert {"score", "random", "q"} <= set(table(at).columns)
    feature = int(table(at)["feature"].iloc[0])
    assert f"Feature {feature}: " in said(at) and "the best of the random directions reaches" in said(at)
    assert "Where it is strongest" in said(at) and "Random positions where it fires" in said(at)


def test_search_and_parts_of_the_list(open_view: Open, demo_run: Path) -> None:
    at = open_view("features", search="STEP_VALUE=7", show="named")
    assert len(table(at)) and table(at)["name"].str.contains("step_value=7").all()
    dead = open_view("features", show="dead")
    assert (table(dead)["fires"] == 0).all()


def test_a_wrong_feature_in_the_url_is_reported(open_view: Open, said: Said) -> None:
    at = open_view("features", feature="999999")
    assert "feature=999999, which is no feature of this SAE" in said(at) and not at.error


def test_an_edit_stands_beside_random_directions_of_its_length(open_view: Open, said: Said) -> None:
    at = open_view("features", edit="ablate", show="named")
    assert not at.error, at.error
    assert "of 20 random directions of the same length" in said(at)
    dead = table(open_view("features", show="dead"))["feature"].iloc[0]
    at = open_view("features", edit="ablate", feature=str(dead))
    assert "nothing to take away" in said(at)


def test_features_that_were_written_are_shown_with_their_effects(open_view: Open, said: Said, own: Path) -> None:
    names = name_features(open_sae(own / "sae", own / "store"))
    effect = [{"token": "seventeen", "effect": 1.5}]
    names["promoted"], names["suppressed"] = [effect] * len(names), [effect] * len(names)
    names.to_parquet(own / "sae" / "features.parquet")
    at = open_view("features", own, search="seventeen")
    assert len(table(at)) == min(len(names), 500) and not at.error
    assert "they need the model" not in said(at)
    (own / "sae" / "features.parquet").write_bytes(b"PAR1")
    assert "cannot be read" in said(open_view("features", own))


def test_activations_of_another_model_are_refused(open_view: Open, said: Said, demo_run: Path) -> None:
    at = open_view("features", store="twin")
    assert len(at.error) == 1 and "is refused" in said(at)


def test_an_sae_without_activations_shows_the_command(open_view: Open, said: Said, own: Path) -> None:
    shutil.rmtree(own / "store")
    at = open_view("features", own)
    assert not at.error and any("cotlens capture run chain-coconut" in code.value for code in at.code)


def test_a_damaged_sae_is_named(open_view: Open, own: Path) -> None:
    (own / "sae" / "sae_weights.safetensors").write_bytes(b"x")
    assert len(open_view("features", own).error) == 1


def test_an_empty_folder_says_so(open_view: Open, said: Said, tmp_path: Path) -> None:
    assert "There is nothing for this page" in said(open_view("features", tmp_path))


@pytest.mark.parametrize("rates", [(0.0, 0.003, 0.7, 1.0), (1.0, 1.0), (0.0, 0.0)])
def test_no_feature_fires_at_more_than_all_positions(rates: tuple[float, ...]) -> None:
    features = pd.DataFrame({"rate": rates, "name": None})
    named, unnamed = density(features).data
    assert sum(named.y) + sum(unnamed.y) == len(rates)
    assert unnamed.x[-1].endswith("to 1")
