"""Write measured figures where people look: `python -m benchmarks.readme [RUN]`.

Fills the marked parts of README.md and of pages in docs/ from the organisms' cards and from `benchmarks/results/`, so that no figure in the
README was typed by hand. With a demo's run folder, its measures are first kept in `benchmarks/results/demo.json`.
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
_LONGEST = 400  # characters of a note: room for every control


def main(run_folder: str | None = None) -> None:
    readme = ROOT / "README.md"
    text = readme.read_text()
    if run_folder:
        run = Run(run_folder).info
        text = _fill(text, "figures", _figures(run))
        _keep(run)
    text = _fill(text, "organisms", _organisms())
    text = _fill(text, "papers", _measured("papers"))
    if (RESULTS / "decoders.json").exists():
        kept = json.loads((RESULTS / "decoders.json").read_text())
        text = _fill(text, "decoders", f"{decoder_table(kept['organisms'])}\n\n{_measured('decoders')}")
        page = ROOT / "docs" / "decoders.md"
        page.write_text(_fill(page.read_text(), "transfer", transfer_table(kept.get("transfer", []))))
    if (RESULTS / "sae.json").exists():
        text = _fill(text, "sae", f"{sae_answer()}\n\n{_measured('sae')}")
    page = ROOT / "docs" / "capture.md"
    contests = [_measured(name, peers=True) for name in ("capture", "store")]
    page.write_text(_fill(page.read_text(), "contests", "\n\n".join(contests)))
    readme.write_text(_fill(text, "probes", f"{_measured('probes')}\n\n{_growth()}"))


def _keep(run: dict[str, Any]) -> None:
    kept = {
        "schema_version": 1,
        "name": "demo",
        "machine": f"{platform.machine()}, python {platform.python_version()}",
        "versions": run["versions"],
        "measures": run["measures"],
        "steps": run["steps"],
        "comparisons": run["comparisons"],
    }
    (RESULTS / "demo.json").write_text(json.dumps(kept, indent=2) + "\n")


def _figures(run: dict[str, Any]) -> str:
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
    """The measures of one bench as it kept them, with what it says beside them, and their peers where these are wanted."""
    lines = ["| figure | measured | target | beside it |", "|---|---|---|---|"]
    for each in json.loads((RESULTS / f"{name}.json").read_text())["measures"]:
        value = each["value"]
        said = (
            "not measured" if value is None else f"**{value:.3g}**" + (f" {_ci(each['ci'])}" if each.get("ci") else "")
        )
        if seeds := other_seeds(each):
            said += f"; other training seeds {seeds}"
        note = _short(each.get("note") or "", f"benchmarks/results/{name}.json")
        note = "; ".join(part for part in (peer_of(each) if peers else "", note) if part)
        lines.append(f"| {each['says']} | {said} | {each['op']} {each['target']:g} | {note} |")
    return "\n".join(lines)


def _short(note: str, where: str) -> str:
    """A note that fits a cell: of a long one its first parts, what was left out, and where the rest is."""
    if len(note) <= _LONGEST:
        return note
    measured, left_out, why = note.partition("not measured: ")
    end = max(measured.rfind(between, 0, _LONGEST) for between in ("; ", ". "))
    return f"{measured[: end if end > 0 else _LONGEST]} … ([all of it]({where})){'; ' + left_out + why if left_out else ''}"


def _growth() -> str:
    """How the solver's time grows, in a sentence."""
    said = json.loads((RESULTS / "probes.json").read_text())["growth"]["summary"]
    return (
        f"One target on 20,000 rows of width 256 takes {said['seconds_for_one_target']:.2f} s, and each further one "
        f"{1000 * said['seconds_per_further_target']:.0f} ms. With 20 targets that is {said['over_floor']:.1f} times the "
        "floor: one pass for the second moments, one factorisation, and one pass for scores and gradients."
    )


def _organisms() -> str:
    rows = ["| name | how it thinks | answers right | 95 % |", "|---|---|---|---|"]
    for name in shipped():
        written = card(name)
        rows.append(f"| `{name}` | {recipe(name).summary} | {written['accuracy']:.3f} | {_ci(written['ci'])} |")
    return "\n".join(rows)


def _ci(pair: list[float]) -> str:
    return f"[{pair[0]:.3f}, {pair[1]:.3f}]"


def _fill(text: str, name: str, content: str) -> str:
    """Put `content` between a pair of markers; raises when they are not there."""
    pattern = re.compile(rf"(<!-- {name}: begin -->\n).*?(<!-- {name}: end -->)", re.DOTALL)
    if not pattern.search(text):
        raise SystemExit(f"the page has no markers for {name!r}.")
    return pattern.sub(lambda found: f"{found[1]}{content}\n{found[2]}", text)


if __name__ == "__main__":
    main(*sys.argv[1:2])
