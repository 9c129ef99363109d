"""Sweeps find values where they are planted, and the controls detect leaks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import interp
import probes
from interp.activations import Store
from interp.errors import StoreError, UsageError
from interp.problems import task
from interp.statistics.intervals import grouped_mean_interval, q_values
from interp.traces import Trace, TraceSet
from probes import Sweep
from probes.sweeps.controls import CONTROLS

ADDRESSES = ("blocks.0.hook_out", "blocks.1.hook_out")
PLANTED = ("value_2", "thought 2", "blocks.1.hook_out")
N = 400


@pytest.fixture(scope="module")
def chains(written_trace: Callable[..., Trace]) -> TraceSet:
    """Hand-made traces of chains with 3 steps, with prompts of one length."""
    return TraceSet([written_trace(p) for p in task("chain:steps=3").generate(N, seed=0, split="test")])


def noise(seed: int, d: int = 12) -> Callable[[pd.DataFrame], np.ndarray]:
    return lambda index: np.random.default_rng(seed).normal(size=(len(index), d))


def planted(traces: TraceSet, place: str, step: int, seed: int = 1, d: int = 12, signal: float = 6.0) -> Callable:
    """Return a function of noise that has the value after one step at one place, as one of ten directions."""

    def acts(index: pd.DataFrame) -> np.ndarray:
        rng = np.random.default_rng(seed)
        codebook = np.linalg.qr(rng.normal(size=(d, d)))[0][:10]
        out = rng.normal(size=(len(index), d))
        for row, trace in zip(
            np.flatnonzero(index["place"] == place), index["trace"][index["place"] == place], strict=True
        ):
            out[row] += signal * codebook[int(traces[trace].problem.steps[step - 1].value)]
        return out

    return acts


@pytest.fixture(scope="module")
def planted_store(chains: TraceSet, tmp_path_factory: pytest.TempPathFactory, write_store: Callable) -> Store:
    acts = {ADDRESSES[0]: noise(0), ADDRESSES[1]: planted(chains, "thought 2", 2)}
    return write_store(tmp_path_factory.mktemp("planted") / "s", chains, acts)


@pytest.fixture(scope="module")
def swept(planted_store: Store) -> Sweep:
    return probes.sweep(
        planted_store, splits=2, controls=["majority", "shuffled_labels", "other_problem", "position_only"]
    )


@pytest.fixture(scope="module")
def of_noise(chains: TraceSet, tmp_path_factory: pytest.TempPathFactory, write_store: Callable) -> Sweep:
    store = write_store(tmp_path_factory.mktemp("noise") / "s", chains, {a: noise(k) for k, a in enumerate(ADDRESSES)})
    return probes.sweep(store, splits=2, controls="none")


def test_a_planted_value_is_found_only_where_it_is_planted(swept: Sweep) -> None:
    table = swept.table()
    is_planted = (table[["target", "place", "address"]] == list(PLANTED)).all(axis=1)
    assert is_planted.sum() == 1
    assert table.loc[is_planted, "accuracy"].item() > 0.95
    assert table.loc[is_planted, "q"].item() < 1e-10
    others = table[~is_planted]
    assert len(others) > 30 and others["accuracy"].max() < 0.25
    assert (others["q"] < 0.05).mean() < 0.05


def test_the_table_has_every_cell(swept: Sweep, planted_store: Store) -> None:
    cells = set(swept.table()[["target", "place", "address"]].itertuples(index=False, name=None))
    values = ("value_1", "value_2", "value_3")
    assert cells == {(t, p, a) for t in values for p in planted_store.places for a in ADDRESSES}


def test_noise_is_rarely_significant(of_noise: Sweep) -> None:
    table = of_noise.table()
    assert len(table) >= 40
    assert (table["q"] < 0.05).sum() <= 1
    assert table["accuracy"].mean() == pytest.approx(0.1, abs=0.02)
    assert ((table["ci_low"] <= 0.1) & (table["ci_high"] >= 0.1)).mean() > 0.85


def test_q_values_are_over_the_whole_sweep(swept: Sweep) -> None:
    table = swept.table()
    np.testing.assert_allclose(table["q"], q_values(table["p"].to_numpy()))


def test_shuffled_labels_and_other_problems_are_at_chance_where_the_probe_is_right(swept: Sweep) -> None:
    cell = swept.cell(*PLANTED)
    assert cell["accuracy"] > 0.95
    for control in ("majority", "shuffled_labels", "other_problem", "position_only"):
        assert cell[control] < 0.22, control


def test_intervals_contain_their_score_and_count_problems(swept: Sweep) -> None:
    table = swept.table()
    assert ((table["ci_low"] <= table["accuracy"]) & (table["accuracy"] <= table["ci_high"])).all()
    # About a quarter of the problems is tested in each split; over two splits, at most that many differ.
    assert (table["n"] > 0.2 * N).all() and (table["n"] < 0.6 * N).all()


def test_one_split_scores_its_test_problems(planted_store: Store) -> None:
    from interp.activations.targets import structures
    from interp.statistics.splits import grouped_split

    single = probes.sweep(planted_store, ["value_2"], places=["thought 2"], splits=1, controls="none")
    rows = planted_store.rows(place="thought 2")
    test = grouped_split(structures(planted_store, rows), 0).test
    cell = single.cell(*PLANTED)
    assert cell["n"] == test.sum()
    right = round(cell["accuracy"] * cell["n"])
    assert cell["accuracy"] == pytest.approx(right / cell["n"])
    # Of exchangeable problems, only how many were right matters to the interval.
    expected = grouped_mean_interval(np.arange(test.sum()) < right, np.arange(test.sum()))
    assert (cell["ci_low"], cell["ci_high"]) == pytest.approx(expected)


# --- controls that catch leaks ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def leaky(
    tmp_path_factory: pytest.TempPathFactory,
    made_problem: Callable,
    written_trace: Callable,
    write_store: Callable,
) -> Store:
    """A store where `value_1` is in the question, `value_2` is its length, and `value_3` is in neither."""
    rng = np.random.default_rng(0)
    traces = []
    for k in range(300):
        word, length, hidden = (int(x) for x in rng.integers(0, 5, 3))
        prompt = [*rng.integers(20, 30, length + 3).tolist(), 40 + word, 60]
        problem = made_problem(f"question {k}", [str(word), str(length), str(hidden)])
        traces.append(written_trace(problem, prompt=prompt))

    def all_values(index: pd.DataFrame) -> np.ndarray:
        values = np.array([[int(s.value) for s in traces[t].problem.steps] for t in index["trace"]])
        thinking = index["place"].str.startswith("thought").to_numpy()
        held = (values[:, :, None] == np.arange(5)).reshape(len(index), -1) * 6.0
        return rng.normal(size=(len(index), 15)) + held * thinking[:, None]

    return write_store(tmp_path_factory.mktemp("leaky") / "s", traces, {ADDRESSES[0]: all_values})


@pytest.fixture(scope="module")
def leaks(leaky: Store) -> Sweep:
    return probes.sweep(leaky, places=["thought 2"], splits=2)


def test_every_target_reads_well_from_the_thought(leaks: Sweep) -> None:
    assert (leaks.table()["accuracy"] > 0.9).all() and len(leaks.table()) == 3


def test_question_only_catches_a_target_in_the_question(leaks: Sweep) -> None:
    control = leaks.table().set_index("target")["question_only"]
    assert control["value_1"] > 0.9
    assert control["value_3"] < 0.4


def test_position_only_catches_a_target_in_the_position(leaks: Sweep) -> None:
    control = leaks.table().set_index("target")["position_only"]
    assert control["value_2"] > 0.95
    assert control["value_1"] < 0.4 and control["value_3"] < 0.4


@pytest.fixture
def known_early(chains: TraceSet, tmp_path: Path, write_store: Callable) -> Store:
    """A store whose third value is in the state at the question's end and in thought 3."""
    both = {ADDRESSES[0]: planted(chains, "question end", 3), ADDRESSES[1]: planted(chains, "thought 3", 3)}
    return write_store(tmp_path / "s", chains, both)


def test_before_thinking_catches_a_target_in_the_state_at_the_question_end(known_early: Store) -> None:
    controls = ["question_only", "before_thinking"]
    table = probes.sweep(known_early, ["value_3"], places=["thought 3"], splits=1, controls=controls)
    cell = table.cell("value_3", "thought 3", ADDRESSES[1])
    assert cell["accuracy"] > 0.9
    assert cell["before_thinking"] > 0.9
    assert cell["question_only"] < 0.3, "the question's text does not contain it"


def test_before_thinking_is_no_control_of_the_state_at_the_question_end_itself(known_early: Store) -> None:
    places = ["thought 3", "question end"]
    swept = probes.sweep(known_early, ["value_3"], places=places, splits=1, controls=["before_thinking"])
    here = swept.cell("value_3", "question end", ADDRESSES[0])
    assert here["accuracy"] > 0.9 and np.isnan(here["before_thinking"])
    assert swept.cell("value_3", "thought 3", ADDRESSES[1])["before_thinking"] > 0.9
    assert "the probe itself reads the state at the question's end" in swept.notes["why_not"]["before_thinking"]


def test_before_thinking_does_not_read_the_question_text(leaks: Sweep) -> None:
    controls = leaks.table().set_index("target").loc["value_1"]
    assert controls["question_only"] > 0.9
    assert controls["before_thinking"] < 0.4


def test_before_thinking_says_why_when_the_question_end_was_not_captured(leaky: Store) -> None:
    from probes.sweeps.controls import before_thinking

    class WithoutQuestionEnd(Store):
        @property
        def index(self) -> pd.DataFrame:  # type: ignore[override]
            return super().index.query("place != 'question end'")

    source = WithoutQuestionEnd(leaky.path)
    inputs = before_thinking(source, source.rows(place="thought 2"))
    assert inputs.inputs == {} and inputs.why_not == "the question's end was not captured"


def test_question_only_says_why_when_all_questions_are_the_same(
    made_problem: Callable, written_trace: Callable, tmp_path: Path, write_store: Callable
) -> None:
    from probes.sweeps.controls import question_only

    traces = [written_trace(made_problem("the same", [str(k)]), prompt=[20, 30]) for k in range(5)]
    store = write_store(tmp_path / "s", traces, {ADDRESSES[0]: noise(0)})
    inputs = question_only(store, store.rows(place="thought 1"))
    assert inputs.inputs == {} and inputs.why_not == "every question has the same tokens"


def test_text_only_catches_a_target_in_the_visible_reasoning(
    written_trace: Callable, tmp_path: Path, write_store: Callable
) -> None:
    """Only words up to the place count."""
    import dataclasses

    traces = []
    for problem in task("chain:steps=3").generate(300, seed=0, split="test"):
        trace = written_trace(problem, kind="thought")
        first = trace.channel.index("thought")
        ids = list(trace.token_ids)
        ids[first : first + 3] = [100 + int(step.value) for step in problem.steps]
        traces.append(dataclasses.replace(trace, token_ids=ids))
    store = write_store(tmp_path / "s", traces, {ADDRESSES[0]: noise(0)})
    table = probes.sweep(
        store, ["value_1", "value_2", "value_3"], places=["begin", "thought 2"], splits=1, controls=["text_only"]
    )
    accuracy = table.table().set_index(["target", "place"])["text_only"]
    assert accuracy["value_1", "thought 2"] > 0.9 and accuracy["value_2", "thought 2"] > 0.9
    assert accuracy["value_3", "thought 2"] < 0.3
    assert np.isnan(accuracy["value_1", "begin"])


def test_a_missing_control_is_nan_and_has_a_reason(leaks: Sweep) -> None:
    table = leaks.table()
    assert set(CONTROLS) <= set(table.columns)
    assert table["random_init"].isna().all() and table["text_only"].isna().all()
    assert "random_init=" in leaks.notes["why_not"]["random_init"]
    assert "no visible reasoning" in leaks.notes["why_not"]["text_only"]
    assert set(leaks.notes["why_not"]) == {"random_init", "text_only"}
    for control in set(CONTROLS) - {"random_init", "text_only"}:
        assert table[control].notna().all(), control


def test_an_untrained_twin_has_a_probe_of_its_own(
    planted_store: Store, chains: TraceSet, tmp_path: Path, write_store: Callable
) -> None:
    options = {"places": ["thought 2"], "splits": 1, "controls": ["random_init"]}
    blank = write_store(tmp_path / "blank", chains, {a: noise(7 + k) for k, a in enumerate(ADDRESSES)})
    assert probes.sweep(planted_store, ["value_2"], random_init=blank, **options).cell(*PLANTED)["random_init"] < 0.25
    knowing = write_store(tmp_path / "knowing", chains, {a: planted(chains, "thought 2", 2, seed=3) for a in ADDRESSES})
    cell = probes.sweep(planted_store, ["value_2"], random_init=knowing, **options).cell(*PLANTED)
    assert cell["random_init"] > 0.9 and cell["accuracy"] > 0.9


def test_a_twin_of_other_problems_raises(
    planted_store: Store, chains: TraceSet, written_trace: Callable, tmp_path: Path, write_store: Callable
) -> None:
    acts = {a: noise(0) for a in ADDRESSES}
    fewer = write_store(tmp_path / "fewer", chains[:100], acts)
    others = [written_trace(p) for p in task("chain:steps=3").generate(N, seed=5, split="test")]
    other = write_store(tmp_path / "other", others, acts)
    for twin in (fewer, other):
        with pytest.raises(StoreError, match=r"of the same traces, got other traces; capture the same problems"):
            probes.sweep(planted_store, ["value_2"], places=["thought 2"], splits=1, random_init=twin)


# --- views, disk, refusals --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(coconut: interp.Reasoner, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """A sweep of real thoughts, with enough problems for the fifth step."""
    traces = coconut.think(coconut.task.generate(400, seed=3, split="test"))
    sites = ["blocks.0.hook_in", "blocks.0.hook_out", "blocks.2.hook_out"]
    store = interp.capture(
        coconut, traces, sites=sites, channels=["special", "latent"], out=tmp_path_factory.mktemp("real") / "s"
    )
    return probes.sweep(store, splits=1, controls=["majority"])


def test_saving_and_loading_keeps_everything(swept: Sweep, tmp_path: Path) -> None:
    swept.save(tmp_path / "sweep")
    again = Sweep.load(tmp_path / "sweep")
    pd.testing.assert_frame_equal(again.table(), swept.table())
    assert again.notes == swept.notes


def test_an_old_sweep_reads_question_only_as_before_thinking(swept: Sweep, tmp_path: Path) -> None:
    """In version 0.1 the control `question_only` used the state at the question's end too."""
    description = (
        "the same probe on the state before any thinking, or on the question's tokens; the better of all on validation"
    )
    notes = swept.notes | {
        "controls": {**swept.notes["controls"], "question_only": description},
        "why_not": {"question_only": "no rows"},
    }
    Sweep(swept.table().assign(question_only=0.25), notes).save(tmp_path)
    again = Sweep.load(tmp_path)
    assert (again.table()["before_thinking"] == 0.25).all() and "question_only" not in again.table()
    assert again.notes["controls"]["before_thinking"] == description and "question_only" not in again.notes["controls"]
    assert again.notes["why_not"] == {"before_thinking": "no rows"}


def test_a_new_sweep_keeps_question_only(leaks: Sweep, tmp_path: Path) -> None:
    leaks.save(tmp_path)
    again = Sweep.load(tmp_path)
    pd.testing.assert_frame_equal(again.table(), leaks.table())
    assert {"question_only", "before_thinking"} <= set(again.notes["controls"])


def test_a_missing_or_damaged_sweep_raises(swept: Sweep, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"expected a probe sweep in .*cotlens probe sweep"):
        Sweep.load(tmp_path / "nowhere")
    swept.save(tmp_path)
    (tmp_path / "sweep.parquet").write_bytes(b"nonsense")
    with pytest.raises(StoreError, match="expected a probe sweep in"):
        Sweep.load(tmp_path)


def test_matched_places_are_the_thoughts_themselves(real: Sweep) -> None:
    matched = real.matched()
    assert matched["step"].tolist() == [1, 2, 3, 4, 5]
    assert matched["place"].tolist() == [f"thought {k}" for k in range(1, 6)]
    assert matched["address"].nunique() == 1
    assert (matched["accuracy"] > 0.8).all()


def test_matched_places_do_not_use_test_accuracy(real: Sweep) -> None:
    rule = real.matched()[["place", "address"]]
    rng = np.random.default_rng(0)
    for _ in range(5):
        frame = real.table().copy()
        for column in ("accuracy", "ci_low", "ci_high", "p", "q"):
            frame[column] = rng.random(len(frame))
        assert Sweep(frame, real.notes).matched()[["place", "address"]].equals(rule)
    # Validation accuracy is what decides: without it at the chosen address, another one is chosen.
    frame = real.table().copy()
    frame.loc[frame["address"] == rule["address"].iloc[0], "val_accuracy"] = 0.0
    assert Sweep(frame, real.notes).matched()["address"].iloc[0] != rule["address"].iloc[0]


def test_matched_places_may_be_one_thought_earlier(real: Sweep) -> None:
    frame = real.table().copy()
    step = frame["target"].str[-1].astype(int)
    earlier = np.where(step == 1, "begin", "thought " + (step - 1).astype(str))
    frame["val_accuracy"] = np.where(frame["place"] == earlier, 0.95, 0.1)
    matched = Sweep(frame, real.notes).matched()
    assert matched["place"].tolist() == ["begin", *(f"thought {k}" for k in range(1, 5))]


def test_matched_places_need_values_and_places_for_every_step(real: Sweep, planted_store: Store) -> None:
    answers = probes.sweep(planted_store, ["answer"], places=["thought 2"], splits=1, controls="none")
    with pytest.raises(UsageError, match="expected a sweep of the targets value_1, value_2, …, got answer"):
        answers.matched()
    one = Sweep(real.table()[real.table()["place"] == "thought 2"], real.notes)
    with pytest.raises(UsageError, match="expected a place at which every step can be read, got none"):
        one.matched()


def test_the_same_sweep_twice_is_the_same(planted_store: Store) -> None:
    one, two = (probes.sweep(planted_store, places=["thought 2"], splits=2).table() for _ in range(2))
    pd.testing.assert_frame_equal(one, two)


def test_an_aliased_address_finds_its_cell(swept: Sweep) -> None:
    assert swept.cell("value_2", "thought 2", "blocks.1.hook_resid_post")["accuracy"] > 0.95
    with pytest.raises(
        UsageError,
        match=r"expected a cell of this sweep, got \(value_2, thought 9, .*Targets: value_1, value_2, value_3",
    ):
        swept.cell("value_2", "thought 9", "blocks.1.hook_out")


def test_the_heatmap_shows_every_cell(swept: Sweep) -> None:
    figure = swept.heatmap("value_2")
    values = np.array(figure.data[0].z, dtype=float)
    part = swept.table()[swept.table()["target"] == "value_2"]
    assert sorted(values.ravel()) == pytest.approx(sorted(part["accuracy"]))
    with pytest.raises(UsageError, match="expected a known target of this sweep, got 'value_9'"):
        swept.heatmap("value_9")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"targets": ["value_2", "step_valu"]}, "expected a known target, got 'step_valu'; did you mean 'step_value'"),
        (
            {"controls": ["shufled_labels"]},
            "expected a known control, got 'shufled_labels'; did you mean 'shuffled_labels'",
        ),
        ({"controls": "everything"}, "expected a known control, got 'everything'.*all, none"),
        (
            {"places": ["thought 22"]},
            "expected a known place in this store, got 'thought 22'; did you mean 'thought 2'",
        ),
        (
            {"addresses": ["blocks.4.hook_out"]},
            "expected a known address in this store, got 'blocks.4.hook_out'; did you mean",
        ),
        ({"splits": 0}, "splits to be a whole number of at least 1, got 0"),
        ({"splits": [0, -1]}, "seed to be a whole number of at least 0, got -1"),
        ({"targets": ["correct"]}, "\\d+ rows with two or more labels for some target, got fewer"),
    ],
)
def test_wrong_arguments_raise(planted_store: Store, arguments: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        probes.sweep(planted_store, **{"splits": 1, "controls": "none", **arguments})


def test_too_few_problems_raise(chains: TraceSet, tmp_path: Path, write_store: Callable) -> None:
    few = write_store(tmp_path / "s", chains[:15], {ADDRESSES[0]: noise(0)})
    with pytest.raises(UsageError, match=r"expected \d+ rows .* capture more problems"):
        probes.sweep(few, splits=1)


def test_a_target_with_too_few_rows_is_noted_as_left_out(
    chains: TraceSet, written_trace: Callable, tmp_path: Path, write_store: Callable
) -> None:
    """Without the note, a table that ends at step 3 looks complete."""
    longer = [written_trace(p) for p in task("chain:steps=5").generate(10, seed=0, split="test")]
    mixed = write_store(tmp_path / "s", [*chains, *longer], {ADDRESSES[0]: noise(0)})
    swept = probes.sweep(mixed, splits=1, controls="none")
    assert swept.targets == ["value_1", "value_2", "value_3"]
    assert "value_4" in str(swept.notes) and "value_5" in str(swept.notes)


def test_the_thoughts_of_chain_coconut_hold_their_values(real: Sweep, coconut: interp.Reasoner) -> None:
    """Each thought holds its own step's value, and no thought holds the value of a later step."""
    table = real.table().set_index(["target", "place", "address"])["accuracy"]
    last = f"blocks.{coconut.model.cfg.n_layers - 1}.hook_out"
    assert table["value_1", "thought 1", "blocks.0.hook_in"] > 0.9
    assert table["value_2", "thought 2", "blocks.0.hook_in"] > 0.9
    assert table["value_2", "begin", last] < 0.5
