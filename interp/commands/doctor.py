"""`cotlens doctor`: check this machine, or report how a model is loaded."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

import typer

from interp.commands.models import LOAD_DEFAULTS, LoadOptions
from interp.commands.options import with_options
from interp.errors import CotlensError
from interp.runtime.console import AsJson, emit, new_app

app = new_app("Check versions, threads, device and disk, or report how a model is loaded.", single=True)

# The ranges of pyproject.toml (a test compares them). sae-lens needs transformer-lens 3 and fails on 4.
WANTED = {
    "torch": ">=2.6,<3",
    "transformers": ">=5,<5.40",
    "transformer-lens": ">=3.9,<4",
    "sae-lens": ">=6.54,<7",
    "streamlit": ">=1.60,<2",
    "plotly": ">=6",
    "pandas": ">=2.2",
    "scikit-learn": ">=1.6",
}


@app.command()
@with_options
def doctor(
    model: Annotated[str | None, typer.Argument(help="A model to load and report on, in place of the machine.")] = None,
    load_options: LoadOptions = LOAD_DEFAULTS,
    as_json: AsJson = False,
) -> None:
    """Check everything that this project needs. The exit code is 1 if a check fails.

    With a model, report how it thinks, its prompt, its markers and stops, and how each of them was recognised.

    Example: cotlens doctor smollm2
    """
    if model is not None:
        _model(model, load_options, as_json)
        return
    checks = [_python(), *map(_package, WANTED), _together(), _threads(), _device(), _disk()]
    ok = all(check["ok"] for check in checks)

    def human() -> None:
        for check in checks:
            print(f"{'ok  ' if check['ok'] else 'FAIL'}  {check['what']:<18} {check['found']}")

    emit({"ok": ok, "checks": checks}, as_json, human)
    if not ok:
        raise CotlensError("some checks failed; see the lines marked FAIL above.")


def _model(model: str, load_options: LoadOptions, as_json: bool) -> None:
    reasoner = load_options.load(model, note=False)
    findings = [vars(finding) for finding in reasoner.loaded.findings]

    def human() -> None:
        print(f"{reasoner.name}: kind {reasoner.kind!r}")
        for finding in findings:
            note = f" ({finding['note']})" if finding["note"] else ""
            print(f"{finding['how']:<10}  {finding['what']:<18} {finding['value']}{note}")

    about = {"model": reasoner.name, "kind": reasoner.kind, "config": reasoner.config.model_dump()}
    emit(about | {"findings": findings}, as_json, human)


def _check(what: str, ok: bool, found: Any) -> dict[str, Any]:
    return {"what": what, "ok": bool(ok), "found": str(found)}


def _python() -> dict[str, Any]:
    return _check("python", sys.version_info >= (3, 11), f"{platform.python_version()} (3.11 or newer is needed)")


def _package(name: str) -> dict[str, Any]:
    from packaging.specifiers import SpecifierSet

    wanted = f"({WANTED[name].replace(',', ', ')} is needed)"
    try:
        installed = version(name)
    except PackageNotFoundError:
        return _check(name, False, f"not installed {wanted}")
    return _check(name, SpecifierSet(WANTED[name]).contains(installed, prereleases=True), f"{installed} {wanted}")


def _together() -> dict[str, Any]:
    try:
        import sae_lens  # noqa: F401
        from transformer_lens.model_bridge import TransformerBridge  # noqa: F401
    except Exception as error:
        return _check("lens packages", False, f"transformer-lens and sae-lens do not import together: {error}")
    return _check("lens packages", True, "transformer-lens and sae-lens import together")


def _threads() -> dict[str, Any]:
    import torch

    policy = os.environ.get("OMP_WAIT_POLICY", "")
    quiet = policy.upper() == "PASSIVE" or os.environ.get("GOMP_SPINCOUNT") == "0"
    note = "" if quiet else "; set OMP_WAIT_POLICY=PASSIVE: threads that spin while they wait slow a busy machine down"
    return _check(
        "threads",
        quiet,
        f"{torch.get_num_threads()} of {os.cpu_count()} cores, OMP_WAIT_POLICY={policy or 'unset'}{note}",
    )


def _device() -> dict[str, Any]:
    import torch

    if torch.cuda.is_available():
        return _check("device", True, f"cuda: {torch.cuda.get_device_name()}")
    return _check("device", True, f"cpu (torch {torch.__version__})")


def _disk() -> dict[str, Any]:
    free = shutil.disk_usage(".").free / 2**30
    return _check("disk", free > 1, f"{free:.1f} GB free here")
