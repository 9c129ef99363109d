"""The commands of the pages, and the example of every `--help`, run: on small files, with few problems.

Where a page says MODEL or FILE, an organism and its own questions stand in. A server, a cluster, a network and a model
that has to be fetched first are the exceptions, each with its reason in `NOT_RUN`.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import interp
from cotlens.cli import COMMANDS
from tests.cotlens.test_help import COMMANDS_ONLY

ROOT = Path(__file__).parent.parent
# `tests/interp/loading/test_forms_of_the_page.py` and `tests/interp/transcripts/test_models_page.py` run models.md.
PAGES = [ROOT / "README.md", *sorted(page for page in (ROOT / "docs").glob("*.md") if page.name != "models.md")]
# Beginnings of commands that are not run, and why.
NOT_RUN = {
    "cotlens dash": "a server; tests/test_wheel.py starts one",
    "cotlens bench": "takes minutes; tests/benchmarks run them",
    "cotlens demo": "takes minutes; tests/cotlens/test_cli.py runs one",
    "cotlens organisms train": "takes minutes; tests/interp/organisms/training run it",
    "cotlens models get": "fetches a file",
    "cotlens models convert": "needs a GGUF file; tests/interp/loading has them",
    "cotlens capture import": "needs files of vLLM; tests/interp/activations have them",
    "cotlens capture resume": "needs an interrupted store; tests/interp/activations have them",
    "cotlens subtext foresight": "needs a thousand problems to meet 20 wrong steps; tests/probes/subtext run it",
    "cotlens causal graph": "needs the name of a prompt; tests/interp/causal/graphs open them",
    "eval": "for a shell; tests/cotlens run `config completion`",
    "cotlens config init": "writes options into the folder of the other commands; tests/cotlens run it",
}
# Words in a command that say that it needs more than this machine has.
NEEDS = (
    "smollm2",
    "ADAPTER",
    "/shared/",
    "--engine slurm",
    "--engine ray",
    "lenses/pythia",
    "adapted_oracle",
    "hidden-states",
)
SMALL = {"MODEL": "chain-text", "FILE.jsonl": "questions.jsonl", "FILE": "questions.jsonl"}
WRITES = ("--out",)
MADE_BY = {
    "runs/traces.parquet": "think chain-coconut --task chain:n=100 --out runs/traces.parquet",
    "runs/store": "capture run chain-coconut runs/traces.parquet --out runs/store",
    "runs/text.parquet": "think chain-text --task chain:n=100 --out runs/text.parquet",
    "runs/other.parquet": "think chain-coconut --task chain:n=60,seed=5 --out runs/other.parquet",
    "runs/text-store": "capture run chain-text runs/text.parquet --out runs/text-store",
    "runs/sae": "sae train runs/store --address ln_final.hook_out --d-sae 64 --k 4 --samples 4000 --out runs/sae",
    "runs/probe": "probe train runs/store --target value_2 --place 'thought 2' --address ln_final.hook_out --out runs/probe",
    "runs/demo": "study chain-text --n 60 --no-twin --no-dictionaries --out runs/demo",
    "lens.pt": "lens fit chain-coconut --traces runs/traces.parquet --contexts 16 --out lens.pt",
    "part1.pt": "lens fit chain-coconut --traces runs/traces.parquet --contexts 8 --out part1.pt",
    "part2.pt": "lens fit chain-coconut --traces runs/other.parquet --contexts 8 --out part2.pt",
    "other.pt": "lens fit chain-coconut --traces runs/other.parquet --contexts 8 --out other.pt",
}
pytestmark = pytest.mark.slow


def _lines(page: Path) -> Iterator[str]:
    """Yield the commands of a page, without their comments."""
    blocks = re.findall(r"^```(\w*)[^\n]*\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    for line in "\n".join(block for language, block in blocks if language in ("", "console", "bash")).splitlines():
        if line.startswith("cotlens "):
            yield re.split(r"\s+#", line)[0].strip()


def _is_run(line: str) -> bool:
    return not line.startswith(tuple(NOT_RUN)) and not any(word in line for word in NEEDS)


def _small(line: str) -> list[str]:
    """Return the words of a command, with files that are there and few problems."""
    line = re.sub(r"\bn=\d+", "n=100", line)
    line = re.sub(r"--n \d+", "--n 40", line)
    line = line.partition(" > ")[0]
    words = [SMALL.get(word, word) for word in shlex.split(line)[1:]]
    if words[:2] == ["sae", "train"]:
        words += ["--samples", "4000"]
    if words[:1] in (["causal"], ["subtext"]) and not {"--n", "--traces", "--questions", "graph", "edit"} & set(words):
        words += ["--n", "200" if "uncertainty" in words else "40"]
    if words[:2] == ["subtext", "measure"]:
        words += ["--no-power"]
    if "--metrics" in words:
        words += ["--n", "12"]
    if words[0] == "study":
        words += ["--no-twin", "--no-dictionaries"]
    return words


def _outputs(line: str) -> set[str]:
    words = shlex.split(line)
    return {words[k + 1] for k, word in enumerate(words[:-1]) if word in WRITES}


def _lines_to_run(page: Path) -> list[str]:
    """Return the commands of a page that are run: those that read what no command made that is not."""
    lines: list[str] = []
    not_made: set[str] = set()
    for line in _lines(page):
        if _is_run(line) and not not_made & set(shlex.split(line)):
            lines.append(line)
            not_made -= _outputs(line)
        else:
            not_made |= _outputs(line) - MADE_BY.keys()
    return lines


PAGE_LINES = {page: lines for page in PAGES if (lines := _lines_to_run(page))}
ON_PAGES = {line for lines in PAGE_LINES.values() for line in lines}
EXAMPLES = [
    line
    for words, command in COMMANDS_ONLY.items()
    if words[0] != "bench" and _is_run(line := command.example) and line not in ON_PAGES
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small files of the names that the pages use."""
    folder = tmp_path_factory.mktemp("world")
    writer = interp.load("chain-text")
    problems = writer.task.generate(60, seed=3)
    questions = [
        {"question": p.question, "answer": p.answer, "steps": [{"text": s.text, "value": s.value} for s in p.steps]}
        for p in problems
    ]
    text = "\n".join(json.dumps(question) for question in questions)
    (folder / "questions.jsonl").write_text(text + "\n", encoding="utf-8")
    np.save(folder / "v.npy", np.ones(interp.load("chain-coconut").model.cfg.d_model, np.float32))
    chats = [
        {"messages": [{"role": "user", "content": p.question}, {"role": "assistant", "content": p.answer}]}
        for p in problems
    ]
    kinds = "".join(f"{k},{'ab'[k % 2]}\n" for k in range(100))  # of the traces of runs/text-store
    (folder / "labels.csv").write_text(f"trace,kind\n{kinds}", encoding="utf-8")
    (folder / "chats.jsonl").write_text("\n".join(map(json.dumps, chats)) + "\n", encoding="utf-8")
    return folder


def _make(words: list[str], world: Path, folder: Path, cotlens: Callable) -> None:
    """Put what a command reads into its folder, made once."""
    outputs = {words[k + 1] for k, word in enumerate(words[:-1]) if word in ("--out", "--to")}
    outputs -= {words[-1]} if words[:2] == ["import", "labels"] else set()  # it labels what is there
    for word in words:
        name = re.sub(r"^(runs/sae):.*", r"\1", word)
        if name in MADE_BY and name not in outputs and not (folder / name).exists():
            if not (world / name).exists():
                making = shlex.split(MADE_BY[name])
                _make(making, world, world, cotlens)
                _run(making, world, cotlens)
            if folder != world:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                copy = shutil.copytree if (world / name).is_dir() else shutil.copy
                copy(world / name, folder / name)


def _run(words: list[str], folder: Path, cotlens: Callable) -> None:
    before = Path.cwd()
    os.chdir(folder)
    try:
        ended = cotlens(*words)
    finally:
        os.chdir(before)
    assert ended.code == 0, f"cotlens {' '.join(words)}: {ended.err[-1500:]}"


@pytest.mark.parametrize("page", PAGE_LINES, ids=lambda page: page.name)
def test_the_commands_of_a_page_run(page: Path, world: Path, tmp_path: Path, cotlens: Callable) -> None:
    for file in ("questions.jsonl", "v.npy", "labels.csv"):
        shutil.copy(world / file, tmp_path)
    for line in PAGE_LINES[page]:
        words = _small(line)
        _make(words, world, tmp_path, cotlens)
        _run(words, tmp_path, cotlens)


@pytest.mark.parametrize("line", EXAMPLES)
def test_the_example_of_a_help_runs(line: str, world: Path, tmp_path: Path, cotlens: Callable) -> None:
    for file in ("questions.jsonl", "chats.jsonl", "labels.csv"):
        shutil.copy(world / file, tmp_path)
    (tmp_path / "runs").mkdir()
    words = _small(line)
    _make(words, world, tmp_path, cotlens)
    _run(words, tmp_path, cotlens)


PLACEHOLDERS = ("runs/store-of-another-seed",)
# Its commands stand beside the formats that they read.
WITHOUT_FILES = ("models.md",)


def _files(page: Path) -> tuple[set[str], list[str]]:
    """Return what the commands of a page write, and what they read before anything on the page wrote it."""
    made: set[str] = set()
    missing: list[str] = []
    for line in _lines(page):
        words, outputs = shlex.split(line), _outputs(line)
        names = {re.sub(r":\d+$", "", word) for word in words if re.fullmatch(r"(runs/\S+|\S+\.pt)", word)}
        inside = {name for name in names if any(name.startswith(f"{folder}/") for folder in made)}
        missing += sorted(name for name in names - outputs - made - inside if name not in PLACEHOLDERS)
        made |= outputs
    return made, missing


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in WITHOUT_FILES], ids=lambda page: page.name)
def test_what_a_page_reads_is_made_there_or_on_a_page_that_it_links_to(page: Path) -> None:
    links = re.findall(r"\]\(([\w/-]+\.md)", page.read_text(encoding="utf-8"))
    linked = {name for link in links if (page.parent / link).exists() for name in _files(page.parent / link)[0]}
    assert [name for name in _files(page)[1] if name not in linked] == []


def test_no_two_pages_write_the_same_file() -> None:
    """The second would be refused where a reader follows both; `runs/demo` is the same run on two pages."""
    owners: dict[str, list[str]] = {}
    for page in PAGES:
        for name in _files(page)[0]:
            if name.startswith("runs/") and name != "runs/demo":
                owners.setdefault(name, []).append(page.name)
    assert {name: pages for name, pages in owners.items() if len(pages) > 1} == {}


def test_the_reasons_name_commands() -> None:
    assert all(beginning == "eval" or beginning.split()[1] in COMMANDS for beginning in NOT_RUN)
    assert len(PAGE_LINES) > 8 and len(ON_PAGES) > 30 and len(EXAMPLES) > 20
