"""Clusters of dask for tests: workers that are processes of this machine, and can be killed and added."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")

TESTS = str(Path(__file__).parent)
LONGEST = 30.0  # seconds until a worker is there


class Workers:
    """A scheduler in this process, and workers without a nanny, which nobody starts again.

    Parameters
    ----------
    n : int
        How many.
    """

    def __init__(self, n):
        settings = {"n_workers": 0, "dashboard_address": ":0", "silence_logs": 50}
        self.cluster = distributed.LocalCluster(**settings)
        self.client = distributed.Client(self.cluster)
        self.processes = []
        self.add(n)

    def add(self, n=1):
        """Start more workers, and wait for them."""
        wanted = len(self.alive) + n
        paths = os.pathsep.join([TESTS, *filter(None, sys.path)])
        environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", START, self.cluster.scheduler_address]
        for _ in range(n):
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            self.processes.append(subprocess.Popen(command, env=environment, **quiet))
        self.client.wait_for_workers(wanted, timeout=LONGEST)

    @property
    def alive(self):
        """The processes that run."""
        return [process for process in self.processes if process.poll() is None]

    def kill(self, process=None):
        """Kill a worker, the oldest by default, as a crash would."""
        process = process or self.alive[0]
        os.kill(process.pid, signal.SIGKILL)
        process.wait()

    def refill(self, n):
        """Wait until the dead are known, and replace them."""
        begin = time.monotonic()
        while len(self.client.nthreads()) != len(self.alive):
            assert time.monotonic() - begin < LONGEST
            time.sleep(0.02)
        if len(self.alive) < n:
            self.add(n - len(self.alive))

    def close(self):
        """End all."""
        for process in self.alive:
            self.kill(process)
        self.client.close()
        self.cluster.close()


START = """
import asyncio, sys
from distributed import Worker

async def run(scheduler):
    async with Worker(scheduler, nthreads=1, dashboard=False) as worker:
        await worker.finished()

asyncio.run(run(sys.argv[1]))
"""
