"""Batches in the order of the steps that need them, with equal bits whether or not they are made ahead."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from skiptune.data import load_dataset
from skiptune.errors import SkiptuneError
from skiptune.runtime.stopping import STOPPING
from skiptune.runtime.workers import end_with_parent, unheard_by_children

AHEAD = 4  # batches that are made ahead, for every process

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Batches:
    """Images uint8 ``[size, C, H, W]`` and labels int64 ``[size]`` of the seeds from each of ``starts`` on.

    Attributes:
        dataset: its name; ``flip``: mirror half of its training images (see ``load_dataset``).
    """

    dataset: str
    split: str
    starts: range
    size: int
    flip: bool = False

    def made(self, loaders: int = 0) -> Generator[Batch]:
        """The batches in order, made by so many processes ahead of their use, or by this one when it comes.

        The processes are spawned, so the main module needs its ``if __name__ == "__main__"``. They end with
        the iterator, which is to be closed, and with this process, however that ends.

        Raises:
            SkiptuneError: as the data set does, or a process was killed from outside.
        """
        if loaders == 0:
            for start in self.starts:
                yield self.at(start)
            return
        with unheard_by_children(*STOPPING):
            pool = ProcessPoolExecutor(loaders, multiprocessing.get_context("spawn"), _begin)
        try:
            waiting = deque[Future[tuple[np.ndarray, np.ndarray]]]()
            for start in self.starts:
                with unheard_by_children(*STOPPING):  # it starts a process if none is idle
                    waiting.append(pool.submit(self.arrays_at, start))
                if len(waiting) == AHEAD * loaders:
                    yield _tensors(waiting.popleft())
            while waiting:
                yield _tensors(waiting.popleft())
        except BrokenProcessPool as error:
            raise SkiptuneError(
                "a process that makes images ended (killed, out of memory?): the same command goes on"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)

    def at(self, start: int) -> Batch:
        """The batch that begins with this seed."""
        return load_dataset(self.dataset, flip=self.flip).batch(range(start, start + self.size), self.split)

    def arrays_at(self, start: int) -> tuple[np.ndarray, np.ndarray]:
        """As ``at``; tensors would travel through files that their process holds."""
        images, labels = self.at(start)
        return images.numpy(), labels.numpy()


def _tensors(future: Future[tuple[np.ndarray, np.ndarray]]) -> Batch:
    images, labels = future.result()
    return torch.from_numpy(images), torch.from_numpy(labels)


def _begin() -> None:
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)  # who stops the training ends this process
    torch.set_num_threads(1)
    threading.Thread(target=end_with_parent, daemon=True).start()
