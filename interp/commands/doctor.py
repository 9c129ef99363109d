"""`cotlens doctor`: is this machine ready, and what is known about a model?"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

import typer

from interp.commands.models import AS_USUAL, Loading
from interp.commands.options import with_options
from interp.errors import CotlensError
from interp.runtime.console import AsJson, emit, new_app

app = new_app("Check versions, threads, device and disk; or say what loading a model finds out.", single=True)

# What works together: sae-lens needs transformer-lens 3, and 4 makes it fail on import.
WANTED: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "torch": ((2, 6), (3,)),
    "transformers": ((5,), (6,)),
    "transformer-lens": ((3, 9), (4,)),
    "sae-lens": ((6, 54), (7,)),
    "streamlit": ((1, 60), (2,)),
    "plotly": ((6,), (8,)),
    "pandas": ((2, 2), (4,)),
    "scikit-learn": ((1, 5), (2,)),
}


@app.command()
@with_options
def doctor(
    model: Annotated[str | None, typer.Argument(help="a model to load and report on")] = None,
    loading: Loading = AS_USUAL,
    as_json: AsJson = False,
) -> None:
    """Say of each thing that this project needs whether it is fine (exit code 1 if one is not).

    With a model: how it thinks, its prompt, its markers and stops, and how each of them is known.
    """
    if model is not None:
        _model(model, loading, as_json)
        return
    checks = [_python(), *map(_package, WANTED), _together(), _threads(), _device(), _disk()]
    ok = all(check["ok"] for check in checks)

    def human() -> None:
        for check in checks:
            print(f"{'ok  ' if check['ok'] else 'FAIL'}  {check['what']:<18} {check['found']}")

    emit({"ok": ok, "checks": checks}, as_json, human)
    if not ok:
        raise CotlensError("some checks failed; see the lines marked FAIL.")


def _model(model: str, loading: Loading, as_json: bool) -> None:
    found = loading.load(model, said=False)
    findings = [vars(each) for each in found.loaded.findings]

    def human() -> None:
        print(f"{found.name}: thinks as {found.kind!r}")
        for each in findings:
            note = f" ({each['note']})" if each["note"] else ""
            print(f"{each['how']:<10}  {each['what']:<18} {each['value']}{note}")

    said = {"model": found.name, "kind": found.kind, "config": found.config.model_dump(), "findings": findings}
    emit(said, as_json, human)


def _check(what: str, ok: bool, found: Any) -> dict[str, Any]:
    return {"what": what, "ok": bool(ok), "found": str(found)}


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("+")[0].split(".") if part.isdigit())


def _python() -> dict[str, Any]:
    return _check("python", sys.version_info >= (3, 11), f"{platform.python_version()} (3.11 or newer is needed)")


def _package(name: str) -> dict[str, Any]:
    low, high = WANTED[name]
    said = f"(>={'.'.join(map(str, low))}, <{'.'.join(map(str, high))} is needed)"
    try:
        found = version(name)
    except PackageNotFoundError:
        return _check(name, False, f"not installed {said}")
    return _check(name, low <= _numbers(found) < high, f"{found} {said}")


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
    note = "" if quiet else "; set OMP_WAIT_POLICY=PASSIVE, spinning threads slow busy machines down"
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
