"""A real SLURM of one node on this machine, as root: ``python tests/slurm/cluster.py FOLDER COMMAND ...``.

Needs Debian's packages: ``apt-get install --no-install-recommends slurmctld slurmd slurm-client munge``.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "squeue", "scontrol")
ENVIRONMENT = {"PATH": os.environ.get("PATH", "") + ":/usr/sbin"}
CONFIG = """
ClusterName=local
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=cred_expire=10,socket={folder}/munge/socket
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmctldPort={port}
SlurmdPort={next_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=2,bf_interval=2
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=1000 State=UNKNOWN
KillWait=20
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes={host} MaxTime=INFINITE State=UP PriorityTier=2 PreemptMode=OFF
"""


def lacking() -> str:
    """Why no cluster can be started here; empty if one can."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=ENVIRONMENT["PATH"]) is None]
    if missing:
        return f"SLURM is not installed (no {missing[0]})"
    return "" if os.geteuid() == 0 else "SLURM's daemons are started by root"


class Cluster:
    """The daemons munged, slurmctld and slurmd; all their files are below a short-named ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, **ENVIRONMENT, "SLURM_CONF": str(folder / "slurm.conf")}
        self._daemons: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Cluster:
        host = os.uname().nodename.split(".")[0]
        for name in ("state", "spool", "log"):
            (self.folder / name).mkdir(parents=True)
        port = 20000 + os.getpid() % 10000
        text = CONFIG.format(
            host=host, folder=self.folder, port=port, next_port=port + 1, cpus=os.cpu_count()
        )
        (self.folder / "slurm.conf").write_text(text)
        munge = self.folder / "munge"
        munge.mkdir(mode=0o755)
        key = munge / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        files = {
            "key-file": key,
            "socket": munge / "socket",
            "pid-file": munge / "pid",
            "log-file": munge / "log",
        }
        places = [f"--{name}={path}" for name, path in {**files, "seed-file": munge / "seed"}.items()]
        try:
            self._start("munged", "--foreground", "--force", *places)
            self._wait(lambda: (munge / "socket").exists(), "munged")
            self._start("slurmctld", "-D")
            self._start("slurmd", "-D", "-N", host)
            self._wait(lambda: "idle" in self.ask("sinfo", "-h", "-o", "%t"), "the node")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(subprocess.SubprocessError, OSError):
            self.ask("scancel", "--user=root")
            end = time.monotonic() + 15
            while self.ask("squeue", "-h") and time.monotonic() < end:
                time.sleep(0.5)
        for daemon in reversed(self._daemons):
            daemon.send_signal(signal.SIGTERM)
        for daemon in reversed(self._daemons):
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def ask(self, *command: str) -> str:
        """What a command of SLURM prints."""
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=60
        ).stdout

    @property
    def jobs(self) -> str:
        """All that SLURM knows of its jobs, one a line."""
        return self.ask("scontrol", "show", "job", "--oneliner")

    def _start(self, *command: str) -> None:
        with open(self.folder / "log" / f"{command[0]}.out", "wb") as log:
            self._daemons.append(
                subprocess.Popen(
                    command, env=self.environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL
                )
            )

    def _wait(self, ready, what: str) -> None:
        end = time.monotonic() + 60
        while not ready():
            if time.monotonic() > end:
                raise RuntimeError(f"{what} did not start; logs in {self.folder}/log")
            time.sleep(0.1)


if __name__ == "__main__":
    if reason := lacking():
        raise SystemExit(f"error: {reason}")
    with Cluster(Path(sys.argv[1]).absolute()) as cluster:
        raise SystemExit(subprocess.call(sys.argv[2:], env=cluster.environment))
