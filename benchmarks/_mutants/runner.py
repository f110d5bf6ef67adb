"""Tests on mutants: one process imports library and tests, and forks a child for every mutant.

The child gives the function its wrong body and runs the tests that execute the changed line, those first that execute
least besides, and of equal tests with other parameters one in turn, until one fails. Nothing has run in the parent, so
that no cache hides the change. The failure counts only if a child with the unchanged code passes the same tests in the
same order; a test that fails there too is left out. `.coverage`, made by `scripts/bench branch_coverage`, knows which
test runs which line.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import pytest
from coverage import CoverageData

from .changes import Mutant, install

FORK = multiprocessing.get_context("fork")
TESTS = 40  # of a mutant at most
SECONDS = 30  # of a CPU for them
PATIENCE = 600  # seconds until a child is given up
ENDS = {0: "survived", -signal.SIGXCPU: "timeout", -signal.SIGKILL: "timeout"}  # exit code of a child; others: killed
Done = Callable[[Mutant, str, str], None]  # a mutant, what became of it, and by which test


class NearestTests:
    """Which tests to run for lines of a file."""

    def __init__(self, path: Path, files: Iterable[Path]) -> None:
        data = CoverageData(str(path))
        data.read()
        self.found = {file: data.contexts_by_lineno(str(file.resolve())) for file in files}
        self.lines = Counter(test for lines in self.found.values() for tests in lines.values() for test in tests)

    def __call__(self, mutant: Mutant) -> list[str]:
        """The tests of a mutant, those first that are the most its own."""
        tests = {test for line in mutant.lines for test in self.found[mutant.file].get(line, ()) if test}
        families = defaultdict[str, list[str]](list)
        for test in sorted(tests, key=lambda test: (self.lines[test], test)):
            families[test.partition("[")[0]].append(test)
        turns = [(turn, self.lines[test], test) for family in families.values() for turn, test in enumerate(family)]
        return [test for *_, test in sorted(turns)]


class Runner:
    """A plugin of pytest that runs mutants where pytest would run its tests."""

    def __init__(self, todo: list[Mutant], tests_of: NearestTests, done: Done) -> None:
        self.todo, self.tests_of, self.done = todo, tests_of, done
        self.failed = False
        self.failing: dict[tuple[str, ...], str] = {}  # of tests that ran on the unchanged code, the one that failed

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember that a test failed."""
        self.failed |= report.failed

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Try one mutant after another."""
        if session.testsfailed:
            raise session.Interrupted("some tests could not be imported")
        items = {item.nodeid: item for item in session.items}
        for mutant in self.todo:
            self.done(mutant, *self._judged(mutant, [items[test] for test in self.tests_of(mutant) if test in items]))
        return True

    def _judged(self, mutant: Mutant, tests: list[pytest.Item]) -> tuple[str, str]:
        """What becomes of a mutant, and by which test: one that passes without it, after the same tests."""
        while near := tests[:TESTS]:
            status, name = self._try(mutant, near)
            if status == "survived":
                return status, ""
            ran = near[: [test.nodeid for test in near].index(name) + 1]
            names = tuple(test.nodeid for test in ran)
            if names not in self.failing:
                unchanged, failing = self._try(None, ran)
                self.failing[names] = "" if unchanged == "survived" else failing
            if not self.failing[names]:
                return status, name
            tests = [test for test in tests if test.nodeid != self.failing[names]]
        return "untested", ""

    def _try(self, mutant: Mutant | None, tests: list[pytest.Item]) -> tuple[str, str]:
        """How a child ends that runs the tests, and the test that was the last."""
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            running = Path(folder, "test")
            running.write_text(tests[0].nodeid, encoding="utf-8")
            child = FORK.Process(target=self._child, args=(mutant, tests, running))
            child.start()
            child.join(PATIENCE)
            with suppress(ProcessLookupError):  # the child, or what its tests have started and not ended
                os.killpg(child.pid or 0, signal.SIGKILL)
            child.join()
            return ENDS.get(child.exitcode or 0, "killed"), running.read_text(encoding="utf-8")

    def _child(self, mutant: Mutant | None, tests: list[pytest.Item], running: Path) -> None:
        os.setsid()
        for handle in (0, 1, 2):
            os.dup2(os.open(os.devnull, os.O_RDWR), handle)
        resource.setrlimit(resource.RLIMIT_CPU, (2 * SECONDS, 2 * SECONDS + 10))
        tests[0].config._tmp_path_factory._basetemp = running.parent  # type: ignore[attr-defined]
        started = time.process_time()
        if mutant:
            install(mutant.function, mutant.after, mutant.file)
        for test, following in zip(tests, [*tests[1:], None], strict=True):
            running.write_text(test.nodeid, encoding="utf-8")
            test.ihook.pytest_runtest_protocol(item=test, nextitem=following)
            if self.failed or (mutant and time.process_time() - started > SECONDS):
                break
        os._exit(self.failed)
