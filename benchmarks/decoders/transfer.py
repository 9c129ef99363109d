"""Transfer of decoders between organisms: another training seed, another task, another kind of reasoner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import interp
from interp.decoders.evaluation.decoding import decode
from interp.decoders.evaluation.transfer import transfer
from interp.errors import CotlensError
from interp.runtime.console import jsonable

SEED, N = 72, 1500
METHODS = ("probe", "logit_lens", "tuned_lens", "neighbours", "sae")
# (what differs, from, to); organisms with their training seeds.
PAIRS: tuple[tuple[str, tuple[str, int], tuple[str, int]], ...] = (
    ("training seed", ("chain-coconut", 0), ("chain-coconut", 1)),
    ("training seed, graph", ("graph-coconut", 0), ("graph-coconut", 1)),
    ("training that hides from the lens", ("chain-coconut", 0), ("chain-coconut-hard", 0)),
    ("task, 31 values for 10", ("chain-coconut", 0), ("chain31-coconut", 0)),
    ("reasoner, text to latent", ("chain-text", 0), ("chain-coconut", 0)),
    ("reasoner, latent to text", ("chain-coconut", 0), ("chain-text", 0)),
    ("reasoner, text to thinking tokens", ("chain3-text", 0), ("chain3-thinking-tokens", 0)),
)


@dataclass(frozen=True)
class Transfer:
    """One transfer of decoders.

    Attributes:
        differs: What differs between the organisms.
        names: Their names with training seeds.
        sources: What loads them.
        n: Number of problems.
    """

    differs: str
    names: tuple[str, str]
    sources: tuple[str, str]
    n: int = N

    def measure(self) -> dict[str, Any]:
        """Return the table of `interp.decoders.evaluation.transfer` as plain values, or the `error` that prevented it."""
        result = {"differs": self.differs, "from": self.names[0], "to": self.names[1]}
        try:
            stores, first = [], None
            for source in self.sources:
                reasoner = interp.load(source)
                first = first or reasoner
                traces = reasoner.think(reasoner.task.generate(self.n, seed=SEED, split="test"), batch_size=256)
                channels = ["latent", "thought", "special"]
                stores.append(interp.record(reasoner, traces, channels=channels))
            read = decode(stores[0], METHODS, reasoner=first, samples=60_000)
            rows = jsonable(transfer(read, stores[1]).to_dict("records"))
            return result | {"rows": [row | {"note": self._by_name(row["note"])} for row in rows]}
        except CotlensError as error:
            return result | {"error": self._by_name(str(error))}

    def _by_name(self, text: str) -> str:
        """Return a text with the names of organisms in place of folders of this machine."""
        for source, name in zip(self.sources, self.names, strict=True):
            text = text.replace(source, name) if Path(source).is_dir() else text
        return text


def transfers(folder: Path | None) -> list[Transfer]:
    """Return the transfers of `PAIRS` whose organisms are shipped or in `folder` as NAME-seedN."""
    available = []
    for differs, one, other in PAIRS:
        sources = [source_of(folder, *end) for end in (one, other)]
        if all(sources):
            names = (f"{one[0]} seed {one[1]}", f"{other[0]} seed {other[1]}")
            available.append(Transfer(differs, names, (str(sources[0]), str(sources[1]))))
    return available


def source_of(folder: Path | None, name: str, seed: int) -> str | None:
    """Return what loads an organism of a training seed: its name if shipped, NAME-seedN in `folder`, or None."""
    from interp.organisms.catalog import shipped

    if seed == 0 and name in shipped():
        return name
    path = folder / f"{name}-seed{seed}" if folder is not None else None
    return str(path) if path is not None and path.is_dir() else None


def transfer_table(results: Sequence[dict[str, Any]]) -> str:
    """Return one row for each transfer and decoder: unchanged, with a rotation and a scale, and with a ridge map.

    Args:
        results: Results of `Transfer.measure`.
    """
    lines = [
        "| what differs | decoder | at home | as it is | rotated | ridge | controls: other problem, shuffled map, chance |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        if "error" in result:
            lines.append(f"| {result['differs']} | – | not taken: {result['error']} |  |  |  |  |")
            continue
        for method in dict.fromkeys(row["method"] for row in result["rows"]):
            rows = {row["alignment"]: row for row in result["rows"] if row["method"] == method}
            cells = " | ".join(_cell(rows.get(kind)) for kind in ("none", "orthogonal", "ridge"))
            read = [row for row in rows.values() if row["top1"] is not None]
            worst = [
                max((row[name] for row in read if row[name] is not None), default=None)
                for name in ("other_problem", "shuffled_map", "chance")
            ]
            controls = ", ".join("–" if value is None else f"{value:.2f}" for value in worst)
            name = f"{result['differs']} (`{result['from']}` to `{result['to']}`)"
            lines.append(f"| {name} | {method.replace('_', ' ')} | {rows['none']['home']:.3f} | {cells} | {controls} |")
    return "\n".join(lines)


def _cell(row: dict[str, Any] | None) -> str:
    """Return the exact match with its interval, or why there is none."""
    if row is None:
        return "no problem in common"
    if row["top1"] is None:
        return "refused"
    return f"**{row['top1']:.3f}** [{row['ci_low']:.3f}, {row['ci_high']:.3f}]"
