"""What the list of artifacts says of each: model, problems, health, the pages that show it, and the next commands."""

from __future__ import annotations

import functools
import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dashboards.artifacts.finding import CAUSAL, TEXT, Artifact
from dashboards.describe import model_name, problems_of, run_command, study_of
from dashboards.record import RUN_FILE
from dashboards.run_info import read_info
from dashboards.runs import TABLES, Run
from interp.errors import CotlensError, StoreError, counted
from interp.runtime.results import read_result

if TYPE_CHECKING:
    from interp.activations import Store

COMPLETE = "✓ complete"
#: What commands give that finish or repair something: a run that has begun, a store, and a run with a damaged part.
FINISHED, WHOLE_STORE = "finish it", "a whole store"
WHOLE_RUN = "a whole run, after this folder is removed"
REPAIRS = (FINISHED, WHOLE_STORE, WHOLE_RUN)


@dataclass(frozen=True)
class Facts:
    """What is known of an artifact from its description, without reading its data.

    Attributes:
        model: Name of the model; empty where it is not known.
        what: What it is of, in a few words.
        state: Whether it is complete, and what is wrong where it is not.
        next: Commands for what is missing, each with what it gives.
        partly: Whether pages can be drawn from the parts that are not damaged.
    """

    model: str
    what: str
    state: str = COMPLETE
    next: tuple[tuple[str, str], ...] = ()
    partly: bool = False

    @property
    def can_be_shown(self) -> bool:
        """Whether pages can be drawn from it."""
        return self.partly or self.state == COMPLETE


def facts_of(artifact: Artifact) -> Facts:
    """Return what is known of an artifact; for a damaged one, what is wrong with it."""
    readers: dict[str, Callable[[Path], Facts]] = {
        "run": _run,
        "traces": _traces,
        "store": _store,
        "sweep": _sweep,
        "sae": _sae,
        "probe": _probe,
        "lens": _lens,
        "graph": _graph,
        CAUSAL: _result,
        TEXT: _result,
    }
    if not str(artifact.path).isprintable():
        return Facts("", "", "✗ its name has characters that cannot be printed; rename it")
    try:
        return readers[artifact.kind](artifact.path)
    except CotlensError as error:
        repair = error.repair if isinstance(error, StoreError) else ""
        return Facts("", "", f"✗ {error}", ((WHOLE_STORE, repair),) if repair else ())
    except Exception as error:  # a file of anybody; one that cannot be read must not hide the others
        return Facts("", "", f"✗ it cannot be read ({type(error).__name__})")


def _run(path: Path) -> Facts:
    try:
        begun = read_info(path)
    except FileNotFoundError:
        begun = {}  # the control's run, which older versions describe in the run around it
    if begun and not begun.get("complete"):
        return Facts(
            model_name(begun),
            str(begun.get("task") or ""),
            "✗ unfinished",
            ((FINISHED, run_command(path, begun)),),
        )
    run = Run(path)
    info, commands = run.info, []
    damaged = _damaged_part(run)
    if damaged is not None:
        state, repair = damaged
        again = (WHOLE_STORE, repair) if repair else (WHOLE_RUN, run_command(path, info))
        return Facts(model_name(info), problems_of(info), state, (again,), partly=True)
    if not (path / "report.html").exists() and (path / RUN_FILE).exists():
        commands.append(("a report", _command("report", "build", path)))
    return Facts(model_name(info), problems_of(info), next=tuple(commands))


def _damaged_part(run: Run) -> tuple[str, str] | None:
    """Return what is wrong with a part of a run, and the command that repairs this part, empty where it needs a new run.

    None where the parts can be read. Shards of activations are read where they are shown, as hashing them takes long.
    """
    from dashboards.artifacts.trace_file import TraceFile

    # What needs a new run comes first: a repaired store would not make such a run whole.
    parts: dict[str, Callable[[], Any]] = {"traces.parquet": lambda: TraceFile(run.traces_file)}
    if run.skipped("sweep") is None:
        parts["sweep"] = lambda: run.sweep
    parts |= {f"{name}.parquet": functools.partial(run.check_table, name) for name in TABLES}
    parts["store"] = lambda: run.store.index
    for name, opened in parts.items():
        try:
            opened()
        except CotlensError as error:
            return f"✗ its {name}: {error}", error.repair if isinstance(error, StoreError) else ""
    return None if run.store.complete else (f"✗ its store: {_unfinished(run.store)}", run.store.resume_command)


def _unfinished(store: Store) -> str:
    """Return how much of a store is written."""
    return f"unfinished: {len(store.committed)} of {store.index['shard'].nunique()} shards"


def _traces(path: Path) -> Facts:
    from dashboards.artifacts.trace_file import TraceFile

    file = TraceFile(path)
    store = path.with_name(f"{path.stem}-store")
    commands = [("activations", _command("capture", "run", file.reasoner, path, "--out", store))]
    study = study_of(path)
    return Facts(
        file.reasoner,
        f"{counted(len(file), 'trace')} of {file.task}",
        next=tuple(commands + ([("a study", study)] if study else [])),
    )


def _store(path: Path) -> Facts:
    from interp.activations import Store

    store = Store(path)
    name, addresses = str(store.meta["reasoner"]["name"]), len(store.meta["addresses"])
    what = f"{counted(len(store.index), 'position')} of {store.meta.get('n_traces', '?')} traces at {counted(addresses, 'address')}"
    if not store.complete:
        return Facts(name, what, f"✗ {_unfinished(store)}", ((WHOLE_STORE, store.resume_command),))
    address = str(store.meta["addresses"][-1])
    sae = path.with_name(f"{path.name}-sae")
    commands = (
        ("probes", _command("probe", "sweep", path, "--out", path.with_name(f"{path.name}-sweep"))),
        ("a table of decoders", _command("decode", "eval", path)),
        ("an SAE", _command("sae", "train", path, "--address", address, "--out", sae)),
    )
    return Facts(name, what, next=commands)


def _sweep(path: Path) -> Facts:
    from probes.sweeps.results import Sweep

    sweep = Sweep.load(path)
    frame, store = sweep.table(), str(sweep.notes.get("store", ""))
    what = f"{counted(len(frame), 'cell')}: {counted(len(sweep.targets), 'target')}, {frame['place'].nunique()} places"
    return Facts("", f"{what}, of {store}" if store.isprintable() else what)


def _sae(path: Path) -> Facts:
    config = _read(path / "cfg.json")
    record = _read(path / "training.json") if (path / "training.json").exists() else {}
    metadata = config.get("metadata") or {}
    model = str(metadata.get("model_name") or record.get("model") or "")
    width = config.get("d_sae", "?")
    what = f"{width} features at {metadata.get('hook_name') or 'an address that it does not name'}"
    store = store_beside(path)
    commands = [(name, _command("sae", verb, path, "--store", store)) for name, verb in _SAE_NEXT] if store else []
    return Facts(model, what, next=tuple(commands))


_SAE_NEXT = (("figures and baselines", "eval"), ("names of features", "features"))


def _probe(path: Path) -> Facts:
    from probes.estimators.saved import load_probe

    saved = load_probe(path)
    accuracy = saved.metrics.get("accuracy")
    score = f", {accuracy:.3f} held out" if isinstance(accuracy, float) else ""
    what = f"{type(saved.probe).__name__} of {saved.target} at {saved.address.name}{score}"
    store = store_beside(path)
    commands = ((("its score elsewhere", _command("probe", "eval", path, "--store", store)),)) if store else ()
    return Facts(saved.model, what, next=commands)


def _lens(path: Path) -> Facts:
    from interp.decoders.saved_lens import describe_lens

    lens = describe_lens(path)
    tokens = "" if lens.n_tokens is None else f", {lens.n_tokens} tokens"
    what = (
        f"{'tuned lens' if lens.method == 'tuned_lens' else 'Jacobian lens'} at {len(lens.addresses)} addresses{tokens}"
    )
    store = store_beside(path)
    commands = (("a table of decoders", _command("decode", "eval", store, "--lens", path)),) if store else ()
    return Facts(lens.model, what, next=commands)


def _graph(path: Path) -> Facts:
    graph = _read(path)
    metadata = graph.get("metadata") or {}
    what = f"attribution graph of {len(graph.get('nodes', []))} nodes and {len(graph.get('links', []))} links"
    return Facts(str(metadata.get("scan") or metadata.get("slug") or ""), what)


def _result(path: Path) -> Facts:
    content = read_result(path)
    n = content["result"].get("n")
    return Facts(
        content["model"]["name"], content["name"] + (f", {counted(n, 'problem')}" if isinstance(n, int) else "")
    )


def store_beside(path: Path) -> Path | None:
    """Return the store beside a part of a run or of a folder; None where there is not exactly one."""
    stores = [folder.parent for folder in path.parent.glob("*/manifest.jsonl") if folder.parent.name != "twin"]
    return stores[0] if len(stores) == 1 else None


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise StoreError(f"{path} cannot be read (it is nested too deeply).") from None
    if not isinstance(content, dict):
        raise StoreError(f"{path} cannot be read (it is no JSON object).")
    return content


def _command(*words: str | Path) -> str:
    """Return a command of this toolkit, quoted for a shell."""
    return shlex.join(["cotlens", *map(str, words)])
