"""Options shared as dataclasses, and old option names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer

from interp.commands.options import OldName, with_options
from interp.errors import UsageError
from interp.runtime.console import new_app


@dataclass(frozen=True)
class Choice:
    address: Annotated[str | None, typer.Option(help="where to read"), OldName("--site")] = None
    depth: int = 2


def run(*arguments: str) -> dict:
    """Run a small command and return the values that it gets."""
    app, values = new_app("A command.", single=True), {}

    @app.command()
    @with_options
    def command(
        channels: Annotated[list[str] | None, typer.Option(help="repeatable"), OldName("--channel")] = None,
        size: Annotated[
            str, typer.Option(), OldName("--quick", value="quick"), OldName("--full", value="full")
        ] = "normal",
        count: Annotated[int, typer.Option(), OldName("--number")] = 3,
        method: Annotated[str, typer.Option(), OldName("--how")] = "probe",
        measure: Annotated[bool, typer.Option("--measure/--no-measure"), OldName("--skip", value=False)] = True,
        choice: Choice = Choice(depth=5),
    ) -> None:
        values.update(channels=channels, size=size, count=count, method=method, measure=measure, choice=choice)

    app(args=list(arguments), prog_name="cotlens sample", standalone_mode=False)
    return values


def test_a_declared_name_stays_that_of_the_new_option(capsys):
    """The hidden option took the name as well, and what was given to it was lost."""
    assert run("--no-measure")["measure"] is False and run("--measure")["measure"] is True
    assert capsys.readouterr().err == ""


def test_without_old_names_nothing_is_printed(capsys):
    assert run("--channels", "thought", "--count", "4") == {
        "channels": ["thought"],
        "size": "normal",
        "count": 4,
        "method": "probe",
        "measure": True,
        "choice": Choice(depth=5),
    }
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("arguments", "name", "value", "new"),
    [
        (["--channel", "thought", "--channel=latent"], "channels", ["thought", "latent"], "--channels"),
        (["--channels", "answer", "--channel", "thought"], "channels", ["answer", "thought"], "--channels"),
        (["--quick"], "size", "quick", "--size quick"),
        (["--full"], "size", "full", "--size full"),
        (["--number", "7"], "count", 7, "--count"),
        (["--skip"], "measure", False, "--no-measure"),
        (["--site", "blocks.1.hook_out"], "choice", Choice("blocks.1.hook_out", 5), "--address"),
    ],
)
def test_an_old_name_works_and_warns_in_one_line(arguments, name, value, new, capsys):
    assert run(*arguments)[name] == value
    old = [part for part in arguments if part.startswith("--")][-1].partition("=")[0]
    assert capsys.readouterr().err == f"warning: {old} is now {new}; the old name works until version 0.3\n"


def test_the_environment_variable_of_an_old_name_works(monkeypatch, capsys):
    monkeypatch.setenv("COTLENS_NUMBER", "9")
    assert run()["count"] == 9
    assert "--number is now --count" in capsys.readouterr().err


def test_old_names_are_not_in_the_help(capsys):
    run("--help")
    shown = capsys.readouterr().out
    assert "--channels" in shown and "--address" in shown
    assert not any(f"{old} " in shown for old in ("--channel", "--site", "--quick", "--full", "--number"))


def test_an_old_name_and_the_new_one_do_not_go_together():
    with pytest.raises(UsageError, match="expected --count or its old name --number, got both"):
        run("--count", "4", "--number", "5")


def test_an_old_name_fills_a_required_option(capsys):
    app, values = new_app("A command.", single=True), []

    @app.command()
    @with_options
    def command(address: Annotated[str, typer.Option(), OldName("--site")]) -> None:
        values.append(address)

    app(args=["--site", "a"], standalone_mode=False)
    app(args=["--address", "b"], standalone_mode=False)
    assert values == ["a", "b"]
    with pytest.raises(UsageError, match="Missing option '--address'"):
        app(args=[], standalone_mode=False)
