"""SAE features: what each is named after, the evidence for it, where it fires, and what the model does without it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from dashboards.artifacts.facts import store_beside
from dashboards.artifacts.finding import Artifact, last_written
from dashboards.features import figures, tables
from dashboards.features.tables import ControlNames, OpenedSAE
from dashboards.views import feature_live, opened, shared
from dashboards.views.opened import facts
from dashboards.views.shared import as_text, number
from dashboards.views.url import View, go

SHOWN = 500  # rows of the list that the browser gets; search reaches the others
_SHOW = {
    "all": "all features",
    "named": "with a name",
    "unnamed": "without a name, that fire",
    "dead": "that never fire",
}


def show() -> None:
    """Draw the page."""
    st.title("SAE features")
    view = View()
    opened.with_artifact(view, "features", lambda artifact: _page(artifact, view))


def _page(artifact: Artifact, view: View) -> None:
    folder = artifact.path
    st.caption(as_text(f"{facts(artifact).what} · {facts(artifact).model or 'model not named'} · {folder}"))
    store = _store(artifact, view)
    saved = tables.saved_features(folder)
    config = _config(folder)
    if store is None and saved is None:
        st.info("There are no activations to show its features on. Capture some of the model that it was trained on:")
        model = facts(artifact).model or "MODEL"
        st.code(
            shlex.join(["cotlens", "capture", "run", model, "TRACES.parquet", "--out", str(folder.parent / "store")]),
            language="bash",
            wrap_lines=True,
        )
        _ignore_rest(view)
        return
    quick = store is not None and tables.is_quick(config, store)
    if saved is None and store is not None and not quick:
        st.info("Naming these features takes longer than a page should. This writes them where this page finds them:")
        st.code(_command(folder, store), language="bash", wrap_lines=True)
        _ignore_rest(view)
        return
    sae = _open(folder, store) if store is not None and quick else None
    features = saved if saved is not None else _names(folder, _known(store))
    control = _control(folder, _known(store)) if sae is not None else None
    _headline(features, control, sae)
    if saved is None:
        st.caption("Effects on logits are not known: they need the model. This command adds them to this page:")
        st.code(_command(folder, _known(store)), language="bash", wrap_lines=True)
    feature = _list(features, control, view)
    row = features[features["feature"] == feature].iloc[0]
    _feature(row, control)
    _firing(sae, row, control, view)
    shared.chart(figures.density(features), key="density", alt="Histogram of how often features fire")
    view.check_rest()
    _copy(folder, store, feature)


def _ignore_rest(view: View) -> None:
    for key in ("search", "show", "feature", "trace", "edit"):
        view.ignore(key)
    view.check_rest()


def _known(store: Path | None) -> Path:
    """Return the store, where the page has found out that there is one."""
    assert store is not None
    return store


def _store(artifact: Artifact, view: View) -> Path | None:
    """Draw the choice of activations, and return the store; None where there is none."""
    stores = {item.name: item.path for item in opened.found().artifacts.values() if item.kind == "store"}
    stores = {name: path for name, path in stores.items() if (path / "manifest.jsonl").exists()}
    if not stores:
        view.ignore("store")
        return store_beside(artifact.path)
    beside = store_beside(artifact.path)
    default = next((name for name, path in stores.items() if path == beside), next(iter(stores)))
    return stores[view.choice("Activations", list(stores), "store", default=default, why_not="no store here")]


def _config(folder: Path) -> dict[str, Any]:
    content = json.loads((folder / "cfg.json").read_text(encoding="utf-8"))
    return content if isinstance(content, dict) else {}


def _open(folder: Path, store: Path) -> OpenedSAE:
    return _opened(str(folder), str(store), last_written(folder), last_written(store))


@st.cache_resource(max_entries=2, show_spinner="Opening the SAE and its activations …")
def _opened(folder: str, store: str, *written: int) -> OpenedSAE:
    return tables.open_sae(Path(folder), Path(store))


def _names(folder: Path, store: Path) -> pd.DataFrame:
    return _named(str(folder), str(store), last_written(folder), last_written(store))


@st.cache_resource(max_entries=2, show_spinner="Naming the features …")
def _named(folder: str, store: str, *written: int) -> pd.DataFrame:
    return tables.name_features(_open(Path(folder), Path(store)))


def _control(folder: Path, store: Path) -> ControlNames:
    return _named_control(str(folder), str(store), last_written(folder), last_written(store))


@st.cache_resource(max_entries=2, show_spinner="Naming random directions …")
def _named_control(folder: str, store: str, *written: int) -> ControlNames:
    return tables.name_control(_open(Path(folder), Path(store)))


def _headline(features: pd.DataFrame, control: ControlNames | None, sae: OpenedSAE | None) -> None:
    """Draw how many features have a name, beside random directions; a control that does as well comes first."""
    n_named, n_dead = int(features["name"].notna().sum()), int((features["rate"] == 0).sum())
    sentence = f"{n_named} of {len(features)} features have a name, {n_dead} never fire."
    if control is None:
        st.markdown(as_text(sentence))
        st.caption("Random directions are not compared: no store of a size that can be read here belongs to this SAE.")
        return
    beside = f"Of as many random directions, {control.n_named} get a name in the same search."
    if control.n_named >= n_named:
        st.warning(
            as_text(f"Random directions do as well: {control.n_named} of them get a name, and {n_named} features do."),
            icon=":material/balance:",
        )
    st.markdown(as_text(f"{sentence} {beside}"))
    if sae is not None:
        shared.table(sae.quality, "sae-quality", alt="Reconstruction of held-out activations, beside random directions")


def _list(features: pd.DataFrame, control: ControlNames | None, view: View) -> int:
    """Draw the list of features, and return the number of the chosen one."""
    st.header("Features")
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    with left:
        search = view.text("Search names, concepts, tokens and numbers", "search", placeholder="step_value=7")
    with right:
        which = view.choice("Show", list(_SHOW), "show", label_of=_SHOW.__getitem__, why_not="no such part of the list")
    kept = _filtered(features, search, which)
    known = set(map(str, features["feature"]))
    usual = str(kept["feature"].iloc[0] if len(kept) else features["feature"].iloc[0])
    number_of = view.valid("feature", usual, lambda text: text in known, why_not="no feature of this SAE")
    left_out = f" Shown: the first {SHOWN} of them." if len(kept) > SHOWN else ""
    st.caption(
        f"{len(kept)} of {len(features)} features match.{left_out} A click on a row opens the feature. The score is F1 on "
        "held-out problems; beside it stands the best random direction for the same concept."
    )
    if kept.empty:
        st.info("No feature matches.")
        st.button("Show all features", on_click=_clear)
        return int(number_of)
    listed = kept.head(SHOWN)
    frame = pd.DataFrame(
        {
            "feature": listed["feature"],
            "name": listed["name"],
            "score": listed["score"],
            "random": [control.score(concept) if control else float("nan") for concept in listed["closest"]],
            "q": listed["q"],
            "closest concept": listed["closest"],
            "fires": listed["rate"],
        }
    )
    st.dataframe(
        frame,
        key="feature_list",
        hide_index=True,
        placeholder="–",
        height=min(36 * (len(frame) + 1), 330),
        on_select=lambda: _select(listed["feature"]),
        selection_mode="single-row",
        alt="Features with their names, scores, and the score of the best random direction",
        column_config={
            "feature": st.column_config.NumberColumn(width="small"),
            "name": st.column_config.TextColumn(width="medium"),
            "score": st.column_config.NumberColumn("F1", format="%.3f", width="small"),
            "random": st.column_config.NumberColumn("random direction's F1", format="%.3f", width=150),
            "q": st.column_config.NumberColumn(format="%.1e", width="small"),
            "fires": st.column_config.NumberColumn(format="percent", width="small"),
        },
    )
    shared.csv_button(frame, "features")
    return int(number_of)


def _filtered(features: pd.DataFrame, search: str, which: str) -> pd.DataFrame:
    kept = features
    if which == "named":
        kept = kept[kept["name"].notna()]
    elif which == "unnamed":
        kept = kept[kept["name"].isna() & (kept["rate"] > 0)]
    elif which == "dead":
        kept = kept[kept["rate"] == 0]
    if search:
        words = search.casefold()
        texts = kept["feature"].astype(str) + " " + kept["name"].fillna("") + " " + kept["closest"].fillna("")
        if "promoted" in kept:
            texts = texts + " " + kept["promoted"].map(_tokens)
        kept = kept[texts.str.casefold().str.contains(words, regex=False)]
    return kept


def _tokens(effects: Any) -> str:
    return " ".join(str(effect["token"]) for effect in effects)


def _select(features: pd.Series) -> None:
    rows = st.session_state["feature_list"].selection.rows
    go("feature", str(features.iloc[rows[0]]) if rows and rows[0] < len(features) else None)


def _clear() -> None:
    go("search", None)
    go("show", None)


def _feature(row: pd.Series, control: ControlNames | None) -> None:
    """Draw the evidence for one feature."""
    feature = int(row["feature"])
    st.header(as_text(f"Feature {feature}: {row['name'] or 'no name'}"))
    if row["rate"] == 0:
        st.info("It never fires on these activations.")
        return
    random = (
        "" if control is None else f"; the best of the random directions reaches {control.score(row['closest']):.3f}"
    )
    detects = "Detects" if row["name"] else "Comes closest to, without reaching a name,"
    st.markdown(
        as_text(
            f"{detects} {row['closest']}: F1 {number(row['score'])} on held-out problems (precision "
            f"{number(row['precision'])}, recall {number(row['recall'])}, q {row['q']:.1e}){random}. It fires at "
            f"{row['rate']:.1%} of the positions, with mean activation {number(row['mean'])} there."
        )
    )
    st.subheader("Where it is strongest")
    shared.table(_examples(row["top"]), f"feature-{feature}-top", alt="Positions with the highest activations")
    st.subheader("Random positions where it fires")
    shared.table(_examples(row["random"]), f"feature-{feature}-random", alt="Random positions where it fires")
    left, right = st.columns(2)
    with left:
        st.subheader("Fires with")
        correlated = pd.DataFrame([dict(other) for other in row["correlated"]])
        if correlated.empty:
            st.caption("No other feature correlates with it by more than 0.1.")
        else:
            shared.table(
                correlated.rename(columns={"r": "correlation"}), f"feature-{feature}-with", alt="Correlated features"
            )
    with right:
        st.subheader("Effect on logits")
        if not len(row.get("promoted", ())):
            st.caption("Not known here: the command at the top of this page adds it.")
        else:
            shared.table(
                _effects(row), f"feature-{feature}-logits", alt="Tokens whose logits its direction raises or lowers"
            )


def _examples(examples: Any) -> pd.DataFrame:
    """Return examples as a table; the token of each is in brackets."""
    columns = ["trace", "place", "activation", "context", "values"]
    frame = pd.DataFrame([dict(example) for example in examples], columns=[*columns, "position"])
    return frame[columns].rename(columns={"values": "values of the steps"})


def _effects(row: pd.Series) -> pd.DataFrame:
    raised, lowered = ([(e["token"], e["effect"]) for e in row[name]] for name in ("promoted", "suppressed"))
    return pd.DataFrame(
        [(*up, *down) for up, down in zip(raised, lowered, strict=True)], columns=["raises", "by", "lowers", "by "]
    )


def _firing(sae: OpenedSAE | None, row: pd.Series, control: ControlNames | None, view: View) -> None:
    """Draw where the feature fires in one trace, and what the model does there without it."""
    st.header("In one trace")
    if sae is None or control is None:
        st.caption("This needs a store of this SAE's model whose size can be read here.")
        view.ignore("trace")
        view.ignore("edit")
        return
    traces = [str(t) for t in np.unique(sae.rows["trace"])]
    top = [str(example["trace"]) for example in row["top"]]
    usual = next((t for t in top if t in traces), traces[0])
    trace = int(view.valid("trace", usual, lambda text: text in set(traces), why_not="no trace with rows of this SAE"))
    st.number_input(
        "Trace",
        min_value=int(traces[0]),
        max_value=int(traces[-1]),
        value=trace,
        key=f"trace_{trace}",
        on_change=_go_trace,
        args=(trace,),
        width=200,
    )
    rows = sae.rows[sae.rows["trace"] == trace]
    feature, direction = int(row["feature"]), control.direction(row["closest"])
    own = sae.encode(rows)[:, feature]
    shown = sae.store.traces[trace]
    positions = rows["position"].to_numpy()
    st.markdown(
        as_text(
            f"{shown.problem.readable} True values of the steps: {', '.join(s.value for s in shown.problem.steps) or 'none'}. "
            f"Answer: {shown.answer} ({'right' if shown.correct else 'wrong'})."
        )
    )
    beside = None if direction is None else sae.encode(rows, control=True)[:, direction]
    frame = pd.DataFrame({"position": positions, "place": rows["place"], "token": [shown.tokens[p] for p in positions]})
    frame["activation"] = own
    if beside is not None:
        frame["random direction"] = beside
    feature_live.draw(sae, shown, positions, row, view)
    shared.table(frame, f"feature-{feature}-trace-{trace}", alt="Activation at every position of the trace")
    shared.chart(
        figures.strip(frame["token"].tolist(), positions.tolist(), own, beside),
        key="strip",
        alt=f"Activation of feature {feature} at each position of trace {trace}",
    )


def _go_trace(shown: int) -> None:
    go("trace", str(st.session_state[f"trace_{shown}"]))


def _command(folder: Path, store: Path) -> str:
    return shlex.join(["cotlens", "sae", "features", str(folder), "--store", str(store), "--out", str(folder)])


def _copy(folder: Path, store: Path | None, feature: int) -> None:
    st.header("Code")
    python = (
        "import cotlens\nfrom interp.sae.trained import open_trained\n\n"
        f"store = cotlens.Store({str(store)!r})\ntrained = open_trained({str(folder)!r}, store)\n"
        f"trained.sae.W_dec[{feature}]"
        if store is not None
        else f"import pandas as pd\n\nfeatures = pd.read_parquet({str(folder / tables.FEATURES_FILE)!r})\n"
        f"features[features['feature'] == {feature}]"
    )
    shared.copy_as(
        python, _command(folder, store) if store is not None else shlex.join(["cotlens", "dash", str(folder)])
    )
