"""Write the figures of a demo run where people look: `python -m benchmarks.readme RUN`.

Fills the marked parts of README.md and keeps the measures in `benchmarks/results/demo.json`, so that no figure
in the README was typed by hand.
"""

from __future__ import annotations

import json
import platform
import re
import sys
from pathlib import Path
from typing import Any

from dashboards.runs import Run
from interp import palette
from interp.organisms.catalog import card, recipe, shipped

ROOT = Path(__file__).parent.parent


def main(run_folder: str) -> None:
    run = Run(run_folder).info
    readme = ROOT / "README.md"
    text = _fill(readme.read_text(), "figures", _figures(run))
    readme.write_text(_fill(text, "organisms", _organisms()))
    kept = {
        "schema_version": 1,
        "name": "demo",
        "machine": f"{platform.machine()}, python {platform.python_version()}",
        "versions": run["versions"],
        "measures": run["measures"],
        "steps": run["steps"],
        "comparisons": run["comparisons"],
    }
    (ROOT / "benchmarks" / "results" / "demo.json").write_text(json.dumps(kept, indent=2) + "\n")


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
        raise SystemExit(f"README.md has no markers for {name!r}.")
    return pattern.sub(lambda found: f"{found[1]}{content}\n{found[2]}", text)


if __name__ == "__main__":
    main(sys.argv[1])
