"""Everything runs with the network closed."""

from __future__ import annotations

import subprocess
import sys
import textwrap


def test_loading_thinking_and_capturing_call_nothing_outside(tmp_path) -> None:
    program = textwrap.dedent(
        """
        import socket, sys

        def closed(*args, **kwargs):
            raise AssertionError(f"the network was called: {args}")

        socket.socket.connect = closed
        socket.create_connection = closed
        socket.getaddrinfo = closed
        import interp
        reasoner = interp.load("chain-coconut")
        traces = reasoner.think(interp.task("chain").generate(20, seed=0, split="test"))
        store = interp.capture(reasoner, traces, out=sys.argv[1])
        print(len(store.index))
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "store")],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "HF_HUB_OFFLINE": "0", "OMP_WAIT_POLICY": "PASSIVE"},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 100
