"""Write measured figures into README.md and docs/: `python -m benchmarks.readme [RUN]`.

Fills the marked parts of these pages from the organisms' cards and from `benchmarks/results/`, so that no figure is
typed by hand. With the folder of a demo's run, its measures are first copied to `benchmarks/results/demo.json`.
"""

from __future__ import annotations

import json
import platform
import re
import sys
from pathlib import Path
from typing import Any

from benchmarks.decoders.table import decoder_table
from benchmarks.decoders.transfer import transfer_table
from benchmarks.sae.answer import sae_answer
from benchmarks.shown import other_seeds, peer_of
from dashboards.runs import Run
from interp.organisms.catalog import card, recipe, shipped
from interp.runtime import palette

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
_LONGEST = 400  # characters of a note; enough for every control


def main(run_folder: str | None = None) -> None:
    """Fill the marked parts of README.md and docs/.

    Args:
        run_folder: Folder of a demo's run, to take its figures from. They stay as they are by default.
    """
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    if run_folder:
        run = Run(run_folder).info
        text = _fill(text, "figures", _figures(run))
        _keep(run)
    text = _fill(text, "organisms", _organisms())
    text = _fill(text, "papers", _measured("papers"))
    if (RESULTS / "decoders.json").exists():
        kept = json.loads((RESULTS / "decoders.json").read_text(encoding="utf-8"))
        text = _fill(text, "decoders", f"{decoder_table(kept['organisms'])}\n\n{_measured('decoders')}")
        page = ROOT / "docs" / "decoders.md"
        page.write_text(
            _fill(page.read_text(encoding="utf-8"), "transfer", transfer_table(kept.get("transfer", []))),
            encoding="utf-8",
        )
    if (RESULTS / "sae.json").exists():
        text = _fill(text, "sae", f"{sae_answer()}\n\n{_measured('sae')}")
    page = ROOT / "docs" / "capture.md"
    contests = [_measured(name, peers=True) for name in ("capture", "store")]
    page.write_text(_fill(page.read_text(encoding="utf-8"), "contests", "\n\n".join(contests)), encoding="utf-8")
    readme.write_text(_fill(text, "probes", f"{_measured('probes')}\n\n{_growth()}"), encoding="utf-8")


def _keep(run: dict[str, Any]) -> None:
    """Copy the measures of a demo's run to `benchmarks/results/demo.json`."""
    kept = {
        "schema_version": 1,
        "name": "demo",
        "machine": f"{platform.machine()}, python {platform.python_version()}",
        "versions": run["versions"],
        "measures": run["measures"],
        "steps": run["steps"],
        "comparisons": run["comparisons"],
    }
    (RESULTS / "demo.json").write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


def _figures(run: dict[str, Any]) -> str:
    """Return the table of the demo's figures."""
    edits, chance = run["interchange"], run["chance"]
    by_name = {other["organism"]: other for other in run["comparisons"]}
    direct, pause = by_name["chain-direct"], by_name["chain-pause-as-thought"]
    lines = [
        "| held-out figure | measured | beside it |",
        "|---|---|---|",
        f"| answers right | **{run['accuracy']:.3f}** {_ci(run['ci'])} | without thinking {direct['accuracy']:.3f}, "
        f"pauses in place of thoughts {pause['accuracy']:.3f}, chance {chance:.2f} |",
    ]
    for step in run["steps"]:
        lines.append(
            f"| step {step['step']} read from thought {step['step']}, linear probe | **{step['probe_top1']:.3f}** "
            f"{_ci(step['ci'])} | question only {step['question_only']:.3f}, another problem's thought "
            f"{step['other_problem']:.3f}, untrained twin {step['random_init']:.3f} |"
        )
    worst = min(run["steps"], key=lambda step: step["sae_top1"])
    rivals = ", ".join(
        f"{palette.label(name)} {min(step[f'{name}_top1'] for step in run['steps']):.3f}"
        for name in ("random_dictionary", "pca", "neurons", "logit_lens")
    )
    lines += [
        f"| the worst step by sparse autoencoder, one feature a value | **{worst['sae_top1']:.3f}** "
        f"{_ci(worst['sae_ci'])} | {rivals} |",
        f"| a donor's thought makes the answer what its value implies | **{edits['follow_rate']:.3f}** {_ci(edits['ci'])} | "
        f"same-value donors change {edits['same_value_change_rate']:.3f} {_ci(edits['same_value_ci'])} |",
        f"| the same edits on `chain-pause-as-thought` | {pause['interchange']['follow_rate']:.3f} "
        f"{_ci(pause['interchange']['ci'])} | its best-read step "
        f"{max(step['probe_top1'] for step in pause['steps']):.3f}, worst {min(step['probe_top1'] for step in pause['steps']):.3f} |",
        f"| the whole demo | {run['seconds']:.0f} s, {run['peak_rss_mb']:.0f} MB | 2 cores, no GPU |",
    ]
    return "\n".join(lines)


def _measured(name: str, *, peers: bool = False) -> str:
    """Return the table of a bench's measures with their notes, and with their peers where `peers` is true."""
    lines = ["| figure | measured | target | beside it |", "|---|---|---|---|"]
    for row in json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))["measures"]:
        value = row["value"]
        measured = (
            "not measured" if value is None else f"**{value:.3g}**" + (f" {_ci(row['ci'])}" if row.get("ci") else "")
        )
        if seeds := other_seeds(row):
            measured += f"; other training seeds {seeds}"
        note = _short(row.get("note") or "", f"benchmarks/results/{name}.json")
        note = "; ".join(part for part in (peer_of(row) if peers else "", note) if part)
        lines.append(f"| {row['says']} | {measured} | {row['op']} {row['target']:g} | {note} |")
    return "\n".join(lines)


def _short(note: str, where: str) -> str:
    """Return a note that fits into a cell; a long one is cut, with a link to the whole note at `where`."""
    if len(note) <= _LONGEST:
        return note
    measured, left_out, why = note.partition("not measured: ")
    end = max(measured.rfind(between, 0, _LONGEST) for between in ("; ", ". "))
    return f"{measured[: end if end > 0 else _LONGEST]} … ([all of it]({where})){'; ' + left_out + why if left_out else ''}"


def _growth() -> str:
    """Return sentences about how the solver's time grows."""
    growth = json.loads((RESULTS / "probes.json").read_text(encoding="utf-8"))["growth"]["summary"]
    return (
        f"One target on 20,000 rows of width 256 takes {growth['seconds_for_one_target']:.2f} s, and each further one "
        f"{1000 * growth['seconds_per_further_target']:.0f} ms. With 20 targets that is {growth['over_floor']:.1f} times the "
        "floor: one pass for the second moments, one factorisation, and one pass for scores and gradients."
    )


def _organisms() -> str:
    """Return the table of shipped organisms."""
    rows = ["| name | how it thinks | answers right | 95 % |", "|---|---|---|---|"]
    for name in shipped():
        measured = card(name)
        rows.append(f"| `{name}` | {recipe(name).summary} | {measured['accuracy']:.3f} | {_ci(measured['ci'])} |")
    return "\n".join(rows)


def _ci(pair: list[float]) -> str:
    """Return an interval as text."""
    return f"[{pair[0]:.3f}, {pair[1]:.3f}]"


def _fill(text: str, name: str, content: str) -> str:
    """Put `content` between the two markers of `name`; raises `SystemExit` where they are missing."""
    pattern = re.compile(rf"(<!-- {name}: begin -->\n).*?(<!-- {name}: end -->)", re.DOTALL)
    if not pattern.search(text):
        raise SystemExit(f"expected the markers <!-- {name}: begin --> and <!-- {name}: end --> in the page, got none.")
    return pattern.sub(lambda match: f"{match[1]}{content}\n{match[2]}", text)


if __name__ == "__main__":
    main(*sys.argv[1:2])
