"""How the tests run beside each other: what shares something slow stays together, and what takes long is named."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import depth
import pytest

depth.register()

if TYPE_CHECKING:
    from xdist.scheduler import LoadScopeScheduling

SHIPPED_RUNS = ("test_shipped_runs.py", "test_report.py", "test_report_timeline.py")
"""files that ask the same runs (``shipped.py``)"""
FIRST, LAST = ("test_validation.py", *SHIPPED_RUNS), "test_fuzz.py"
"""what takes longest begins first; what needs most kernels begins when others have compiled them"""
PATIENCE_S = 15.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first."""
    order = {name: place for place, name in enumerate(FIRST)} | {LAST: len(FIRST) + 1}
    items.sort(key=lambda item: order.get(item.path.name, len(FIRST)))


def group(test: str) -> str:
    """Of a test's name, that of the group that one process takes: a file, or of the claims a suite."""
    file = test.partition("::")[0]
    name = file.rpartition("/")[2]
    if name == "test_validation.py" and (suite := re.search(r"\[([^\]]*)\]$", test)):
        return f"{file} {suite[1]}"
    return "shipped runs" if name in SHIPPED_RUNS else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    """Groups go to processes as these become free, in the order of the tests."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group(nodeid)

    return Groups(config, log)


class Running:
    """Tests under way, in all processes; those that take long are named while they do."""

    def __init__(self, terminal: pytest.TerminalReporter) -> None:
        self.terminal = terminal
        self.begun: dict[str, float] = {}
        self.over = threading.Event()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.begun[nodeid] = time.monotonic()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self.begun.pop(nodeid, None)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self) -> Iterator[None]:
        threading.Thread(target=self._tell, daemon=True).start()
        try:
            return (yield)
        finally:
            self.over.set()

    def _tell(self) -> None:
        while not self.over.wait(PATIENCE_S):
            now = time.monotonic()
            for test, begun in sorted(self.begun.items(), key=lambda entry: entry[1]):
                if now - begun >= PATIENCE_S:
                    self.terminal.ensure_newline()
                    self.terminal.write_line(f"running for {now - begun:.0f} s: {test}")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None and not hasattr(config, "workerinput"):  # the process that speaks
        config.pluginmanager.register(Running(terminal), "running")
