"""The help of every command: an example that would run, whole sentences, defaults shown one way, 100 columns."""

from __future__ import annotations

import pkgutil
import re
import shlex
from collections.abc import Callable
from typing import Any

import pytest
import typer

from cotlens.cli import COMMANDS

APPS = {name: "benchmarks.cli:app" if name == "bench" else place for name, (place, _) in COMMANDS.items()}


def _commands() -> dict[tuple[str, ...], Any]:
    """Return every command and every group by its words."""
    found: dict[tuple[str, ...], Any] = {}
    for name, place in APPS.items():
        found[name,] = typer.main.get_command(pkgutil.resolve_name(place))
        found |= {(name, inner): command for inner, command in getattr(found[name,], "commands", {}).items()}
    return found


ALL = _commands()
COMMANDS_ONLY = {words: command for words, command in ALL.items() if not hasattr(command, "commands")}


def _words(example: str) -> list[str]:
    """Return the words after `cotlens` in an example, without what the shell does with its output."""
    (line,) = re.findall(r"\bcotlens ([^>)]+)", example)
    return shlex.split(line)


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_the_example_of_a_command_is_a_line_that_it_takes(words: tuple[str, ...]) -> None:
    example = _words(ALL[words].example)
    assert tuple(example[: len(words)]) == words
    command = ALL[words]
    for word in words[1:] if command in COMMANDS_ONLY.values() else example[1:2]:
        command = command.commands[word] if hasattr(command, "commands") else command
    own = example[1 if len(words) == 1 and words in COMMANDS_ONLY else 2 :]
    context = command.make_context("command", own, resilient_parsing=False)
    assert all(context.params[p.name] is not None for p in command.params if p.required)


@pytest.mark.parametrize("words", [words for words in ALL if words[0] != "bench"], ids=" ".join)
def test_the_help_shows_its_example_whole_and_fits_100_columns(
    words: tuple[str, ...], cotlens: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    shown = cotlens(*words, "--help").out
    assert shown.isascii() and max(map(len, shown.splitlines())) <= 100
    last = shown.partition("\nExample:\n")[2]
    assert " ".join(last.replace("\\\n", " ").split()) == ALL[words].example


@pytest.mark.parametrize("words", [words for words in ALL if words not in COMMANDS_ONLY], ids=" ".join)
def test_a_group_lists_whole_sentences(words: tuple[str, ...]) -> None:
    for command in ALL[words].commands.values():
        short = command.get_short_help_str(45)
        assert short[0].isupper() and short.endswith(".") and "..." not in short


@pytest.mark.parametrize("words", COMMANDS_ONLY, ids=" ".join)
def test_a_default_is_shown_in_brackets_and_nowhere_else(words: tuple[str, ...]) -> None:
    """`show_default` also takes words, so no help text says it in a way of its own."""
    texts = [parameter.help or "" for parameter in COMMANDS_ONLY[words].params]
    assert not [text for text in texts if re.search(r"\bdefaults?\b", text, re.IGNORECASE)]
    assert not [text for text in texts if re.search(r"be repeated|Repeat for|given several times", text)]


def test_a_default_that_an_option_takes_is_shown_without_brackets(cotlens: Callable) -> None:
    """A default from a configuration file is text for Typer, which sets text in brackets."""
    for words, defaults in {
        ("probe", "sweep"): ["3", "ridge", "0.02", "inline"],
        ("sae", "train"): ["topk", "512", "16", "200000"],
        ("capture", "run"): ["resid"],
    }.items():
        shown = " ".join(cotlens(*words, "--help").out.split())
        assert [value for value in defaults if f"[default: {value}]" not in shown] == []
    assert "[default: (every block)]" in shown


def test_words_that_stand_for_a_default_are_shown(cotlens: Callable) -> None:
    shown = " ".join(cotlens("probe", "sweep", "--help").out.split())
    assert "[default: (STORE-sweep)]" in shown and "[default: (every place)]" in shown


def test_a_long_example_is_broken_before_an_option(cotlens: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = cotlens("probe", "train", "--help").out.partition("\nExample:\n")[2].splitlines()
    assert lines[0].endswith(" \\") and lines[1].startswith("      --") and not lines[1].endswith("\\")


@pytest.mark.parametrize("words", COMMANDS_ONLY, ids=" ".join)
def test_a_switch_has_a_no_form_where_it_is_on_by_default_and_only_there(words: tuple[str, ...]) -> None:
    switches = [p for p in COMMANDS_ONLY[words].params if getattr(p, "is_flag", False) and not p.hidden]
    assert [p.opts[0] for p in switches if bool(p.default) != bool(p.secondary_opts)] == []


@pytest.mark.parametrize("words", COMMANDS_ONLY, ids=" ".join)
def test_a_switch_is_named_after_what_it_adds(words: tuple[str, ...]) -> None:
    """What takes something away is the `--no-` form of a switch that is on."""
    names = [p.opts[0] for p in COMMANDS_ONLY[words].params if getattr(p, "is_flag", False) and not p.hidden]
    assert [name for name in names if re.match(r"--(no|not|without|skip|omit|disable)-", name)] == []


def test_an_edit_is_what_is_done_to_a_state() -> None:
    """`causal edit` takes a step and its value, which is another thing."""
    shown = {words for words, one in COMMANDS_ONLY.items() for p in one.params if "--edit" in p.opts and not p.hidden}
    assert shown == {("causal", "interchange")}


def test_every_test_of_a_model_can_keep_its_result() -> None:
    tests = {words: command for words, command in COMMANDS_ONLY.items() if words[0] in ("causal", "subtext")}
    assert len(tests) > 20
    assert [
        " ".join(words) for words, one in tests.items() if "--out" not in {o for p in one.params for o in p.opts}
    ] == []


@pytest.mark.parametrize("option", ["--layers", "--temperature", "--device", "--transfer"])
def test_an_option_takes_the_same_words_in_every_command(option: str) -> None:
    shown: dict[str, list[str]] = {}
    for words, command in COMMANDS_ONLY.items():
        if words[0] in ("bench", "organisms"):
            continue
        for parameter in command.params:
            if option in parameter.opts:
                shown.setdefault(parameter.help or "", []).append(" ".join(words))
    wanted = {
        "--layers": "such as",
        "--temperature": "0 takes the likeliest token",
        "--device": "such as cpu",
        "--transfer": "Allow",
    }[option]
    assert shown and [text for text in shown if wanted not in text] == []
