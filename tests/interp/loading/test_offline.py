"""Everything runs without a network."""

from __future__ import annotations

import subprocess
import sys
import textwrap

CLOSED = """
import socket, sys
CALLS = []

def closed(*args, **kwargs):
    CALLS.append(args)
    raise OSError("the network is closed")

socket.socket.connect = closed
socket.create_connection = closed
socket.getaddrinfo = closed
"""


def offline(program: str, *arguments: object, home: object) -> subprocess.CompletedProcess[str]:
    """Run a program in an environment of its own in which no connection can be made."""
    return subprocess.run(
        [sys.executable, "-c", CLOSED + textwrap.dedent(program), *map(str, arguments)],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "HOME": str(home), "HF_HUB_OFFLINE": "0", "OMP_WAIT_POLICY": "PASSIVE"},
        timeout=240,
    )


def test_a_hub_model_without_a_network_is_one_readable_line(tmp_path) -> None:
    program = """
        from cotlens.cli import main
        main(sys.argv[1:])
    """
    done = offline(program, "doctor", "some-org/some-model", home=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: cannot load a model from 'some-org/some-model'") and len(lines[0]) < 600
    assert "Check the network, or give a folder on disk." in lines[0]


def test_loading_thinking_and_capturing_call_nothing_outside(tmp_path, model_folder) -> None:
    """An organism, and a model folder that was never made for this project; a library may have swallowed the error."""
    program = """
        import interp
        reasoner = interp.load("chain-coconut")
        problems = interp.task("chain").generate(20, seed=0, split="test")
        traces = reasoner.think(problems)
        store = interp.capture(reasoner, traces, out=sys.argv[1])
        foreign = interp.load(sys.argv[2]).with_config(max_thought_tokens=4, max_answer_tokens=2)
        foreign.think(problems[:2])
        assert not CALLS, f"the network was called: {CALLS}"
        print(len(store.index))
    """
    done = offline(program, tmp_path / "store", model_folder("qwen3"), home=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 100
