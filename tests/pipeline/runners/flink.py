"""A real Flink cluster on this machine: one job manager, task managers, Beam's job server."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.pipeline.runners import parts

OPENED = [
    *("java.base/sun.net.util", "java.base/sun.nio.ch", "java.base/java.io", "java.base/java.net"),
    *("java.base/java.nio", "java.base/java.lang", "java.base/java.lang.reflect"),
    *("java.base/java.text", "java.base/java.time", "java.base/java.util"),
    *("java.base/java.util.concurrent", "java.base/java.util.concurrent.atomic"),
    "java.base/java.util.concurrent.locks",
]
"""Packages of Java 17 that Flink reaches into."""
START_S = 90
RUNTIME = "org.apache.flink.runtime"


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Cluster:
    """Flink with `workers` task managers, and a job server; logs in `folder`."""

    folder: Path
    workers: int = 2
    rest: int = field(default_factory=free_port)
    endpoint: str = field(default_factory=lambda: f"localhost:{free_port()}")
    task_managers: list["subprocess.Popen[bytes]"] = field(default_factory=list)
    _others: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def __enter__(self) -> "Cluster":
        try:
            self._write_configuration()
            main = f"{RUNTIME}.entrypoint.StandaloneSessionClusterEntrypoint"
            self._others.append(self._java("job-manager", main, memory="384m"))
            for _ in range(self.workers):
                self.start_task_manager()
            self._wait(lambda: self.ask("overview")["taskmanagers"] == self.workers)
            self._others.append(self._start_job_server())
            self._wait(self._takes_jobs)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in (*self._others, *self.task_managers):
            process.kill()
            process.wait()

    def ask(self, what: str) -> Any:
        """What Flink's own interface tells."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.rest}/{what}", timeout=10) as answer:
            return json.loads(answer.read())

    def options(self) -> list[str]:
        """How a job is sent to the job server, with Beam's boot program for its workers."""
        return [
            "--runner=PortableRunner",
            f"--job_endpoint={self.endpoint}",
            *self.environment(),
        ]

    def environment(self) -> list[str]:
        """How workers are started: as processes, which find what this process can import."""
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        settings = {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": path,
            "RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT": "1",
        }
        config = {"command": str(parts.boot()), "env": settings}
        return [
            "--environment_type=PROCESS",
            f"--environment_config={json.dumps(config)}",
            f"--parallelism={self.workers}",
        ]

    def start_task_manager(self) -> None:
        """Starts one more task manager."""
        main = f"{RUNTIME}.taskexecutor.TaskManagerRunner"
        name = f"task-manager-{len(self.task_managers)}"
        self.task_managers.append(self._java(name, main, memory="384m"))

    def kill_task_manager(self) -> None:
        """Kills the first task manager, as a machine dies: its Python workers stay."""
        self.task_managers[0].send_signal(signal.SIGKILL)

    def _write_configuration(self) -> None:
        rpc = free_port()
        values = {
            "jobmanager.rpc.address": "127.0.0.1",
            "jobmanager.rpc.port": rpc,
            "rest.address": "127.0.0.1",
            "rest.port": self.rest,
            "rest.bind-address": "127.0.0.1",
            "taskmanager.host": "127.0.0.1",
            "taskmanager.cpu.cores": 1.0,
            # One that is left must be able to take all.
            "taskmanager.numberOfTaskSlots": self.workers,
            "cluster.evenly-spread-out-slots": "true",
            "taskmanager.memory.framework.heap.size": "96m",
            "taskmanager.memory.framework.off-heap.size": "64m",
            "taskmanager.memory.task.heap.size": "128m",
            "taskmanager.memory.task.off-heap.size": "0m",
            "taskmanager.memory.managed.size": "64m",
            "taskmanager.memory.network.min": "32m",
            "taskmanager.memory.network.max": "32m",
            "taskmanager.memory.jvm-metaspace.size": "128m",
            "taskmanager.memory.jvm-overhead.min": "64m",
            "taskmanager.memory.jvm-overhead.max": "64m",
            "heartbeat.interval": 1000,
            "heartbeat.timeout": 8000,
            "restart-strategy": "fixed-delay",
            "restart-strategy.fixed-delay.attempts": 10,
            "restart-strategy.fixed-delay.delay": "1 s",
            "io.tmp.dirs": self.folder / "tmp",
        }
        conf = self.folder / "conf"
        conf.mkdir(parents=True)
        (self.folder / "tmp").mkdir()
        lines = (f"{name}: {value}" for name, value in values.items())
        (conf / "flink-conf.yaml").write_text("\n".join(lines) + "\n")
        (conf / "log4j.properties").write_text(
            "rootLogger.level = INFO\nrootLogger.appenderRef.out.ref = Out\n"
            "appender.out.name = Out\nappender.out.type = CONSOLE\n"
            "appender.out.layout.type = PatternLayout\n"
            "appender.out.layout.pattern = %d %p %c{1} %m%n\n"
        )

    def _java(self, name: str, main: str, memory: str) -> "subprocess.Popen[bytes]":
        command = [
            parts.java(),
            f"-Xmx{memory}",
            f"-Dlog4j.configurationFile={self.folder}/conf/log4j.properties",
            *(f"--add-opens={package}=ALL-UNNAMED" for package in OPENED),
            "-cp",
            f"{parts.flink()}/*",
            main,
            "--configDir",
            str(self.folder / "conf"),
        ]
        return self._start(name, command)

    def _start_job_server(self) -> "subprocess.Popen[bytes]":
        port = self.endpoint.rpartition(":")[2]
        command = [
            parts.java(),
            "-Xmx384m",
            *(f"--add-opens={package}=ALL-UNNAMED" for package in OPENED),
            "-jar",
            str(parts.job_server()),
            f"--flink-master=127.0.0.1:{self.rest}",
            f"--job-port={port}",
            "--artifact-port=0",
            "--expansion-port=0",
            f"--artifacts-dir={self.folder}/artifacts",
        ]
        return self._start("job-server", command)

    def _start(self, name: str, command: Sequence[str]) -> "subprocess.Popen[bytes]":
        with (self.folder / f"{name}.log").open("ab") as log:
            # Beam's boot program leaves a file where it works.
            return subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.folder
            )

    def _takes_jobs(self) -> bool:
        host, _, port = self.endpoint.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=1):
            return True

    def _wait(self, is_ready: Any) -> None:
        last = time.monotonic() + START_S
        while True:
            try:
                if is_ready():
                    return
            except OSError:
                pass
            if time.monotonic() > last:
                logs = {path.name: path.read_text()[-2000:] for path in self.folder.glob("*.log")}
                raise TimeoutError(f"the cluster did not start: {logs}")
            time.sleep(0.2)
