"""Clusters on this machine: two raylets of Ray, and a SLURM of one node from the system's own programs."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

SLURM_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "sinfo")
_STARTS_WITHIN = 60.0  # seconds


def program(name: str) -> str | None:
    """Return the path of a system program, also in the folders of daemons."""
    return shutil.which(name, path=os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"]))


@contextmanager
def two_raylets() -> Iterator[str]:
    """Within a `with` block, run a Ray cluster of two nodes with one CPU each, and give its address."""
    from ray.cluster_utils import Cluster

    cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        yield cluster.address
    finally:
        cluster.shutdown()


@contextmanager
def slurm_of_one_node(folder: Path) -> Iterator[Path]:
    """Within a `with` block, run munged, slurmctld and slurmd of this user, and give the path of slurm.conf.

    Args:
        folder: Where keys, sockets, states and logs go.
    """
    key, munge_socket, host = folder / "munge.key", folder / "munge.socket", socket.gethostname().split(".")[0]
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    conf = folder / "slurm.conf"
    conf.write_text(
        f"""ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={_free_port()}
SlurmdPort={_free_port()}
AuthType=auth/munge
AuthInfo=socket={munge_socket}
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={os.cpu_count()} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
""",
        encoding="utf-8",
    )
    commands = [
        ["munged", "--foreground", "--force", f"--socket={munge_socket}", f"--key-file={key}"]
        + [f"--{name}-file={folder}/munge.{name}" for name in ("pid", "log", "seed")],
        ["slurmctld", "-D", "-c", "-f", str(conf)],
        ["slurmd", "-D", "-f", str(conf)],
    ]
    with ExitStack() as stack:
        for name, *options in commands:
            stack.enter_context(_running([str(program(name)), *options], folder / f"{name}.log"))
            if name == "munged":
                _wait_until(munge_socket.exists, folder)
        environment = {**os.environ, "SLURM_CONF": str(conf)}

        def idle() -> bool:
            asked = ["sinfo", "--noheader", "--format=%t"]
            return "idle" in subprocess.run(asked, capture_output=True, text=True, env=environment, check=False).stdout

        _wait_until(idle, folder)
        yield conf


@contextmanager
def _running(command: list[str], log: Path) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            yield
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()


def _wait_until(ready: Any, folder: Path) -> None:
    deadline = time.monotonic() + _STARTS_WITHIN
    while not ready():
        if time.monotonic() > deadline:
            logs = {log.name: log.read_text(encoding="utf-8", errors="replace")[-500:] for log in folder.glob("*.log")}
            raise TimeoutError(f"the cluster did not start within {_STARTS_WITHIN:.0f} s: {logs}")
        time.sleep(0.2)


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
