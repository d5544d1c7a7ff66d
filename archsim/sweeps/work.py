"""Runs points, here or in long-lived processes of their own."""

from __future__ import annotations

import concurrent.futures
import itertools
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from archsim.errors import ArchsimError, RunFailed

if TYPE_CHECKING:
    from archsim.run_spec import RunSpec
    from archsim.sweeps.store import Store


@dataclass(frozen=True)
class Record:
    """What became of a point.

    Attributes
    ----------
    result: the run's result as JSON data, without its ops; empty if it failed.
    error: what went wrong, in one text; empty if nothing did.
    """

    key: str
    result: dict[str, Any] = field(default_factory=dict)
    error: str = ""

    def figure(self, path: str) -> Any:
        """The value at a path such as ``energy_j.total``, None if there is none."""
        return self.figures().get(path)

    def figures(self) -> dict[str, Any]:
        """All values of the result by path."""
        return dict(_leaves(self.result, ""))


def _leaves(data: Mapping[str, Any] | list[Any], path: str) -> Iterator[tuple[str, Any]]:
    for key, value in data.items() if isinstance(data, Mapping) else enumerate(data):
        if isinstance(value, Mapping | list):
            yield from _leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def _run_point(key: str, spec: RunSpec, store: Store) -> Record:
    """Run one point and store its record."""
    from archsim.runs import run

    try:
        result = run(spec).to_json()
    except ArchsimError as error:
        record = Record(key, error=str(error))
    except Exception as error:  # noqa: BLE001
        # A defect must not take the other points along. It is not stored: once mended, the point runs again.
        return Record(key, error=f"defect: {type(error).__name__}: {error}")
    else:
        record = Record(key, {name: value for name, value in result.items() if name != "ops"})
    store.write(record)
    return record


def _leave_with_the_parent() -> None:
    """A worker ends at once and without a word on Ctrl-C, and when its parent is killed: what it had done is stored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent.sentinel,), daemon=True).start()


def _follow(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


def simulate(todo: Mapping[str, RunSpec], store: Store, workers: int) -> Iterator[Record]:
    """Records of the points in the order in which they end."""
    if workers == 1 or len(todo) < 2:
        for key, spec in todo.items():
            yield _run_point(key, spec, store)
        return
    # Spawned, not forked: a fork of a process with threads (numba's, BLAS's) may never wake up.
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(min(workers, len(todo)), context, _leave_with_the_parent)
    waiting = iter(todo.items())
    try:
        running = {pool.submit(_run_point, *item, store) for item in itertools.islice(waiting, 2 * workers)}
        while running:
            done, running = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
            following = itertools.islice(waiting, len(done))
            running |= {pool.submit(_run_point, *item, store) for item in following}
            for future in done:
                yield future.result()
    except BrokenProcessPool:
        raise RunFailed(
            "a worker process died, perhaps for want of memory; the points that had ended are "
            "kept: run the sweep again, with fewer workers"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)
