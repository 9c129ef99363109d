"""The wrong-in-silence suite: the tests that hold what a model's files, templates, tokens and types can get wrong, counted."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.parts import PartResult

ROOT = Path(__file__).parents[2]
#: What can be wrong in silence, and the tests of it, from the root of the checkout.
SUITE: dict[str, tuple[str, ...]] = {
    "weights": ("tests/interp/models/test_weights.py", "tests/interp/models/test_quantised.py"),
    "code of repositories": ("tests/interp/loading/test_code_of_repositories.py",),
    "templates": ("tests/interp/reasoners/test_chat_templates.py",),
    "markers and text": ("tests/interp/reasoners/test_markers_in_text.py",),
    "windows and batches": ("tests/interp/reasoners/rollouts/test_batching.py",),
    "types": (
        "tests/interp/reasoners/rollouts/test_finite.py",
        "tests/interp/decoders/test_dtypes.py",
        "tests/interp/commands/test_causal_dtypes.py",
    ),
    "identity": (
        "tests/interp/activations/test_identity.py",
        "tests/interp/decoders/test_saved_lens.py",
        "tests/interp/decoders/jacobian/test_lens_files.py",
        "tests/interp/sae/test_foreign.py",
    ),
    "grading": ("tests/interp/problems/test_answers.py",),
    "questions": ("tests/interp/problems/questions",),
    "unknown architectures": ("tests/interp/models/test_wrapping.py",),
}


def silent_errors(suite: Mapping[str, Sequence[str]] | None = None, progress: Any = None) -> PartResult:
    """Count the cases of the suite in which something wrong passes unnoticed: the tests that fail.

    Args:
        suite: Kind of error to paths of tests, relative to the checkout or absolute. Default: `SUITE`.
        progress: Called with the kinds done and all kinds.

    Returns:
        `models.silent_errors`, and the table `silent`: cases and failures of each kind.

    Raises:
        RuntimeError: A kind ran no test, or its tests could not be run.
    """
    chosen = SUITE if suite is None else suite
    rows = []
    for number, (kind, paths) in enumerate(chosen.items()):
        rows.append({"kind": kind, **_run(paths)})
        if progress is not None:
            progress(number + 1, len(chosen))
    failed = [name for row in rows for name in row["failed"]]
    counts = ", ".join(f"{row['kind']} {row['cases']}" for row in rows)
    return PartResult(
        {
            "models.silent_errors": {
                "value": len(failed),
                "n": sum(row["cases"] for row in rows),
                "note": f"tests that fail, of: {counts}" + (f"; failing: {'; '.join(failed)}" if failed else ""),
            }
        },
        {"silent": rows},
    )


def _run(paths: Sequence[str]) -> dict[str, Any]:
    """Return how many tests ran, and the names of those that failed; skipped ones do not count."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", f"--junitxml={report}", "-m", "slow or not slow", *paths]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ)
        if done.returncode not in (0, 1) or not report.exists():
            raise RuntimeError(f"the tests {', '.join(paths)} could not be run: {done.stdout.strip()[-500:]}")
        cases = list(ElementTree.parse(report).iter("testcase"))
    ran = [case for case in cases if case.find("skipped") is None]
    if not ran:
        raise RuntimeError(f"expected tests in {', '.join(paths)}, got none that ran.")
    failed = [case.get("name") for case in ran if case.find("failure") is not None or case.find("error") is not None]
    return {"cases": len(ran), "failed": failed}
