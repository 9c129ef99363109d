"""Find all that this toolkit wrote below some folders: runs, stores, traces, sweeps, SAEs, probes, lenses, graphs, results."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dashboards.record import RUN_FILE
from interp.runtime.results import MARK
from interp.runtime.written import FOLDERS, is_jacobian_lens

#: Results of `cotlens causal` and of the commands about visible thoughts, which `--out` writes.
CAUSAL, TEXT = "causal test", "text test"
#: What there is, by the word that pages use, in the order of the list.
KINDS = ("run", "traces", "store", "sweep", "sae", "probe", "lens", "graph", CAUSAL, TEXT)
# A home folder may hold millions of files; a search of that many folders takes seconds.
MAX_FOLDERS = 20_000
# The files of a comparison in runs of version 0.1 and 0.2, which wrote no run.json for it.
_COMPARISONS, _COMPARED = "comparisons", "traces.parquet"
# A tuned lens of the tuned-lens package.
_FOREIGN_LENS = {"config.json", "params.pt"}
_TABLES = ("index.parquet", "readouts.parquet", "scores.parquet", "interchange.parquet", "sweep.parquet")
_SKIPPED = {"acts", "units", "checkpoint", "__pycache__", "node_modules", "site-packages"}


@dataclass(frozen=True)
class Artifact:
    """Something that this toolkit wrote.

    Attributes:
        kind: One of `KINDS`.
        path: Its folder, or its file.
        name: Its path below the folder that was given, beginning with that folder's name where several were given.
        part_of: Name of the run that it is a part of; empty for what stands alone.
    """

    kind: str
    path: Path
    name: str
    part_of: str = ""


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        artifacts: By name, each once.
        notes: What was left out, and why.
    """

    artifacts: dict[str, Artifact]
    notes: list[str]


def find_artifacts(roots: Sequence[Path]) -> Found:
    """Return everything that this toolkit wrote in and below some files and folders.

    Links are not followed; those that lead out of the folders are counted.

    Args:
        roots: Files and folders, as absolute paths.
    """
    artifacts: dict[str, Artifact] = {}
    notes: list[str] = []
    n_folders, left = 0, 0
    bases = {root: _base(root, roots) for root in roots}
    for root in roots:
        if root.is_file():
            kind = _kind_of_file(root)
            if kind:
                artifacts[bases[root]] = Artifact(kind, root, bases[root])
            else:
                notes.append(f"{root.name} is nothing that this toolkit wrote.")
            continue
        for folder, files, outside in _walk(root, roots):
            n_folders, left = n_folders + 1, left + outside
            if n_folders > MAX_FOLDERS:
                notes.append(f"Only {MAX_FOLDERS:,} folders were searched; give fewer, such as `cotlens dash runs`.")
                break
            for artifact in _of_folder(folder, files, root, bases[root] if len(roots) > 1 else ""):
                if artifact.name in artifacts and artifacts[artifact.name].path != artifact.path:
                    # A part that is called as the folder that was given, such as the SAE of a run named `sae`.
                    artifact = replace(artifact, name=f"{root.name}/{artifact.name}")
                artifacts.setdefault(artifact.name, _with_run(artifact, artifacts))
    if left:
        notes.append(f"{left} links lead out of these folders and are not followed.")
    return Found(artifacts, notes)


def last_written(path: Path) -> int:
    """Return when an artifact was last written, for caches; 0 where it is gone."""
    for name in (RUN_FILE, "manifest.jsonl", "sweep.json", "probe.json", "cfg.json", "tuned_lens.json", _COMPARED, ""):
        try:
            return (path / name if name else path).stat().st_mtime_ns
        except OSError:
            continue
    return 0


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files of a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file() and not entry.is_symlink())


def _base(root: Path, roots: Sequence[Path]) -> str:
    """Return the first part of the names below a root; its folder too where another root has the same name."""
    same = [other for other in roots if other.name == root.name]
    return root.name if len(same) == 1 else f"{root.parent.name}/{root.name}"


def _walk(root: Path, roots: Sequence[Path]) -> Iterator[tuple[Path, list[str], int]]:
    """Yield folders from the top down, their files, and the number of their links that lead outside."""
    for path, folders, files in os.walk(root):
        folder, outside = Path(path), 0
        for name in list(folders):
            if name.startswith(".") or name in _SKIPPED:
                folders.remove(name)
            elif (folder / name).is_symlink():
                folders.remove(name)
                target = (folder / name).resolve()
                if not any(target.is_relative_to(given) for given in roots):
                    outside += 1
        links = [name for name in files if (folder / name).is_symlink()]
        outside += sum(not any((folder / n).resolve().is_relative_to(given) for given in roots) for n in links)
        folders.sort()
        yield folder, sorted(set(files) - set(links)), outside


def _of_folder(folder: Path, files: list[str], root: Path, base: str) -> Iterator[Artifact]:
    """Yield what a folder is, and what lies in it as single files."""
    below = folder.relative_to(root).as_posix()
    name = "/".join(part for part in (base, below if below != "." else ("" if base else root.name)) if part)
    kinds = [
        kind for kind, (sign, beside) in FOLDERS.items() if sign in files and (not beside or set(beside) & set(files))
    ]
    if not kinds and set(files) >= _FOREIGN_LENS:
        kinds = ["lens"]
    if not kinds and folder.parent.name == _COMPARISONS and _COMPARED in files:
        kinds = ["run"]
    for kind in kinds[:1]:
        yield Artifact(kind, folder, name)
    if kinds and kinds[0] in ("store", "probe", "sae", "sweep", "lens"):
        return
    for file in files:
        if file in _TABLES or (file == _COMPARED and kinds):
            continue
        kind_of_file = _kind_of_file(folder / file)
        if kind_of_file:
            yield Artifact(kind_of_file, folder / file, file if name == root.name and not base else f"{name}/{file}")


def _kind_of_file(path: Path) -> str:
    """Return the kind of a single file; empty where it is none of ours."""
    try:
        if path.suffix == ".parquet":
            return "traces" if _is_trace_file(path) else ""
        if path.suffix == ".pt":
            return "lens" if is_jacobian_lens(path) else ""
        if path.suffix == ".json" and path.name not in (RUN_FILE, "meta.json"):
            with path.open("rb") as file:
                head = file.read(4096)
            if f'"file": "{MARK}"'.encode() in head:
                return TEXT if b'"name": "subtext ' in head or b'"name": "causal faithfulness"' in head else CAUSAL
            return "graph" if b'"metadata"' in head and (b'"slug"' in head or b'"qParams"' in head) else ""
    except OSError:
        return ""
    return ""


def _is_trace_file(path: Path) -> bool:
    """Return whether a Parquet file has the columns of traces; only its footer is read."""
    import pyarrow.parquet as pq

    try:
        return {"problem", "reasoner", "token_ids", "channel"} <= set(pq.read_schema(path).names)
    except (OSError, ValueError):
        return path.name == "traces.parquet"  # a damaged one is listed, and says so


def _with_run(artifact: Artifact, artifacts: dict[str, Artifact]) -> Artifact:
    """Return an artifact with the name of the run around it; runs are found before their parts."""
    around = [run for run in artifacts.values() if run.kind == "run" and run.path in artifact.path.parents]
    if not around:
        return artifact
    closest = max(around, key=lambda run: len(run.path.parts))
    return replace(artifact, part_of=closest.name)
