"""Decoders taken from one organism to another: another training, another task, another way of thinking."""

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
# what differs, from, to; the last two with their training seeds
JOURNEYS: tuple[tuple[str, tuple[str, int], tuple[str, int]], ...] = (
    ("training seed", ("chain-coconut", 0), ("chain-coconut", 1)),
    ("training seed, graph", ("graph-coconut", 0), ("graph-coconut", 1)),
    ("training that hides from the lens", ("chain-coconut", 0), ("chain-coconut-hard", 0)),
    ("task, 31 values for 10", ("chain-coconut", 0), ("chain31-coconut", 0)),
    ("reasoner, text to latent", ("chain-text", 0), ("chain-coconut", 0)),
    ("reasoner, latent to text", ("chain-coconut", 0), ("chain-text", 0)),
    ("reasoner, text to thinking tokens", ("chain3-text", 0), ("chain3-thinking-tokens", 0)),
)


@dataclass(frozen=True)
class Taken:
    """One journey: what differs, the two organisms, and where each of them is."""

    differs: str
    names: tuple[str, str]
    sources: tuple[str, str]
    n: int = N

    def measure(self) -> dict[str, Any]:
        """The table of `interp.decoders.evaluation.transfer`, as plain values, or the `error` that kept it from being taken."""
        told = {"differs": self.differs, "from": self.names[0], "to": self.names[1]}
        try:
            stores, home = [], None
            for source in self.sources:
                reasoner = interp.load(source)
                home = home or reasoner
                traces = reasoner.think(reasoner.task.generate(self.n, seed=SEED, split="test"), batch_size=256)
                channels = ["latent", "thought", "special"]
                stores.append(interp.record(reasoner, traces, channels=channels))
            read = decode(stores[0], METHODS, reasoner=home, samples=60_000)
            rows = jsonable(transfer(read, stores[1]).to_dict("records"))
            return told | {"rows": [row | {"note": self._by_name(row["note"])} for row in rows]}
        except CotlensError as error:
            return told | {"error": self._by_name(str(error))}

    def _by_name(self, said: str) -> str:
        """What is kept names organisms, not the folders of this machine."""
        for source, name in zip(self.sources, self.names, strict=True):
            said = said.replace(source, name) if Path(source).is_dir() else said
        return said


def journeys(folder: Path | None) -> list[Taken]:
    """Those of `JOURNEYS` whose organisms are there: shipped, or in `folder` as NAME-seedN."""
    found = []
    for differs, one, other in JOURNEYS:
        places = [source_of(folder, *end) for end in (one, other)]
        if all(places):
            names = (f"{one[0]} seed {one[1]}", f"{other[0]} seed {other[1]}")
            found.append(Taken(differs, names, (str(places[0]), str(places[1]))))
    return found


def source_of(folder: Path | None, name: str, seed: int) -> str | None:
    """What loads the organism `name` of a training seed: a shipped one, or NAME-seedN in `folder`; None if neither is."""
    from interp.organisms.catalog import shipped

    if seed == 0 and name in shipped():
        return name
    there = folder / f"{name}-seed{seed}" if folder is not None else None
    return str(there) if there is not None and there.is_dir() else None


def transfer_table(taken: Sequence[dict[str, Any]]) -> str:
    """One row for each journey and decoder: as it is, through a rotation and a scale, through a ridge map."""
    lines = [
        "| what differs | decoder | at home | as it is | rotated | ridge | controls: other problem, shuffled map, chance |",
        "|---|---|---|---|---|---|---|",
    ]
    for each in taken:
        if "error" in each:
            lines.append(f"| {each['differs']} | – | not taken: {each['error']} |  |  |  |  |")
            continue
        for method in dict.fromkeys(row["method"] for row in each["rows"]):
            rows = {row["alignment"]: row for row in each["rows"] if row["method"] == method}
            cells = " | ".join(_cell(rows.get(kind)) for kind in ("none", "orthogonal", "ridge"))
            read = [row for row in rows.values() if row["top1"] is not None]
            worst = [
                max((row[name] for row in read if row[name] is not None), default=None)
                for name in ("other_problem", "shuffled_map", "chance")
            ]
            said = ", ".join("–" if value is None else f"{value:.2f}" for value in worst)
            name = f"{each['differs']} (`{each['from']}` to `{each['to']}`)"
            lines.append(f"| {name} | {method.replace('_', ' ')} | {rows['none']['home']:.3f} | {cells} | {said} |")
    return "\n".join(lines)


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return "no problem in common"
    if row["top1"] is None:
        return "refused"
    return f"**{row['top1']:.3f}** [{row['ci_low']:.3f}, {row['ci_high']:.3f}]"
