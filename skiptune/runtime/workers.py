"""Worker processes, one CPU thread each: the same bits for any number of them."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Protocol, TypeVar

import torch
from threadpoolctl import threadpool_limits

from skiptune.errors import SkiptuneError
from skiptune.runtime.stopping import check_stop, stop_wanted

# Read by OpenMP and BLAS when a worker loads them, before our code runs there.
_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)
# What a killed process leaves is removed; there is nothing that its user should do.
_QUIET_TRACKER = {"PYTHONWARNINGS": "ignore:resource_tracker:UserWarning"}


class Task(Protocol):
    """A small picklable value, e.g. a frozen dataclass; calling it does the work and stores the chunk."""

    def __call__(self) -> Any: ...


TaskT = TypeVar("TaskT", bound=Task)


def default_workers() -> int:
    """Number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """CPU kernels use one thread inside the block: sums round alike in this process and in any worker."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(limits=1):
            yield
    finally:
        torch.set_num_threads(threads)


class Workers:
    """A pool of `count` worker processes that lives for a `with` block and serves any number of `run` calls.

    Workers start at the first `run` and end with this process, however it ends. They are spawned, so the
    main module needs its `if __name__ == "__main__"`. With count 1, tasks run in this process. Raises
    SkiptuneError for a count below 1.
    """

    def __init__(self, count: int) -> None:
        if count < 1:
            raise SkiptuneError(f"{count} workers: use 1 or more, this machine has {default_workers()} cores")
        self.count = count
        self._executor: ProcessPoolExecutor | None = None
        self._processes: set[BaseProcess] = set()

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._executor is not None:
            self._executor.shutdown()
        self._forget()

    def run(self, tasks: Sequence[TaskT], on_done: Callable[[TaskT], None] | None = None) -> list[Any]:
        """Run every task once; returns their results in the order of `tasks`.

        `on_done` is called in this process as each task ends, in order of completion. The first exception of
        a task is raised as it is, after the running tasks have finished; tasks not started are dropped.
        Raises SkiptuneError if a worker is killed from outside. Ctrl-C ends the workers at once.
        """
        if self.count == 1:
            with one_thread():
                return [_finished(task, _unless_stopped(task), on_done) for task in tasks]
        try:
            results, failure = self._run_in_pool(tasks, on_done)
        except BrokenProcessPool as error:
            self._kill()
            time.sleep(1.0)  # a scheduler that ends all processes has told this one too: then that is why
            raise SkiptuneError(
                "a worker process was killed (out of memory?): finished chunks are kept; "
                "run the same command again, with fewer workers if it happens again"
            ) from error
        except BaseException:
            self._kill()
            raise
        if failure is not None:
            raise failure
        return results

    def _run_in_pool(
        self, tasks: Sequence[TaskT], on_done: Callable[[TaskT], None] | None
    ) -> tuple[list[Any], BaseException | None]:
        """Results, and the first exception of a task if there was one."""
        waiting = deque(range(len(tasks)))
        running: dict[Future[Any], int] = {}
        results: list[Any] = [None] * len(tasks)
        failure: BaseException | None = None
        while running or (waiting and failure is None):
            # Only as many as can run: a queued future could no longer be dropped after a failure.
            if not running:
                check_stop()
            # The first round is begun as a whole: its tasks may wait for each other.
            more = failure is None and not (running and stop_wanted())
            while waiting and len(running) < self.count and more:
                i = waiting.popleft()
                running[self._submit(tasks[i])] = i
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                i = running.pop(future)
                error = future.exception()
                if isinstance(error, BrokenProcessPool):
                    raise error
                if error is None:
                    results[i] = _finished(tasks[i], future.result(), on_done)
                failure = failure or error
        return results, failure

    def _submit(self, task: Task) -> Future[Any]:
        before = set(multiprocessing.active_children())
        with _environment(_ONE_THREAD), unheard_by_children(signal.SIGINT, signal.SIGUSR2):
            if self._executor is None:
                context = multiprocessing.get_context("spawn")
                self._executor = ProcessPoolExecutor(self.count, context, _start_worker)
            future = self._executor.submit(task)  # starts a worker if none is idle
            self._processes |= set(multiprocessing.active_children()) - before
        return future

    def _kill(self) -> None:
        for process in self._processes:
            process.kill()
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)
        self._forget()

    def _forget(self) -> None:
        self._executor = None
        self._processes = set()


def _unless_stopped(task: Task) -> Any:
    check_stop()
    return task()


def _finished(task: TaskT, result: Any, on_done: Callable[[TaskT], None] | None) -> Any:
    if on_done is not None:
        on_done(task)
    return result


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGUSR2"):
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    torch.set_num_threads(1)
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    """End this process as soon as its parent has ended, however that happened; for a thread of a worker."""
    # Waits on a pipe that only the parent holds open: it returns after SIGKILL too.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def unheard_by_children(*numbers: signal.Signals) -> Iterator[None]:
    """Processes spawned inside never hear these signals, from their first instruction on; this one later.

    What a terminal or a scheduler tells all processes then reaches only the one that decides.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        # The first spawn would start it, and unblock signals on the way.
        with _environment(_QUIET_TRACKER):
            resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
