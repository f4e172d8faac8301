"""Several processes that answer fields, and records that still come in the order of the inputs.

Each worker is a process with an opened model and a socket. It holds at most two fields, the one at
hand and the next, and no field is handed out that is more than ``AHEAD`` fields per worker in
front of the record to be written next, so memory does not grow with the number of fields however
slow one of them is. A worker that dies answers for its field with an error record and is replaced.

Workers do not listen to SIGTERM and SIGINT: a service manager sends them to every process of a
service, and what was begun is finished. They end when their socket is closed.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, Final

from allsub_edge.errors import AllsubError, FieldError, UsageError

if TYPE_CHECKING:
    from allsub_edge.classifier import Field, View
    from allsub_edge.prediction import Prediction

HELD: Final[int] = 2
"""Fields a worker holds: while its answer travels it already works on the next one."""

AHEAD: Final[int] = 4
"""Fields for each worker that may be handed out before the oldest of them is answered."""

MAX_DEATHS: Final[int] = 3
"""Workers that die one after another, without an answer between, before the run is given up."""

_PATIENCE: Final[float] = 5.0
_START: Final[str] = (
    "import sys; sys.path[:] = {path!r}; "
    "from allsub_edge.cli.workers import serve; serve({handle}, {model!r}, {threads!r}, {views!r})"
)

Sourced = tuple[str, "Field | AllsubError"]
Answer = tuple["Prediction", "View | None"]


def serve(handle: int, model: str | None, threads: int, views: bool) -> None:
    """The life of a worker: open the model, answer until the socket is closed.

    Args:
        handle: file descriptor of the worker's end of a socket pair.
        model: as for ``Classifier.load``.
        threads: of the engine.
        views: send back what the model saw, too.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    from allsub_edge.classifier import Classifier

    with Connection(handle) as line:
        try:
            classifier = Classifier.load(model, threads=threads)
        except AllsubError as error:
            _send(line, error)
            return
        _send(line, None)
        with classifier:
            while True:
                try:
                    given: Sourced = line.recv()
                except (EOFError, ConnectionResetError):
                    return
                ((record, view),) = classifier.view_many([given])
                _send(line, (record, view if views else None))


def _send(line: Connection, what: object) -> None:
    """Send, unless the other end is gone: then nobody waits for it."""
    with suppress(BrokenPipeError, ConnectionResetError):
        line.send(what)


class _Worker:
    """One process, the fields it holds, and the line to it."""

    def __init__(self, model: str | None, threads: int, views: bool) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            code = _START.format(
                path=sys.path, handle=theirs.fileno(), model=model, threads=threads, views=views
            )
            self.process = subprocess.Popen(
                [sys.executable, "-c", code], stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()]
            )
            self.line = Connection(ours.detach())
        self.held: deque[tuple[int, Sourced]] = deque()
        self.ready = False

    def give(self, number: int, given: Sourced) -> None:
        self.held.append((number, given))
        # A worker that died meanwhile is noticed when its line is read.
        with suppress(BrokenPipeError, ConnectionResetError):
            self.line.send(given)

    def end(self) -> None:
        """Close the line and see the process off."""
        self.line.close()
        try:
            self.process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(_PATIENCE)


class Workers:
    """Answers for many fields by several processes; use it as a context manager.

    Args:
        model: path of a model file; None means the shipped one.
        count: how many processes.
        threads: of each process's engine.
        views: whether what the model saw is wanted beside each record.

    Raises:
        ModelFileError, UsageError: as ``Classifier.load``, from the first worker.
    """

    def __init__(self, model: str | None, count: int, threads: int, *, views: bool) -> None:
        self._settings = (model, threads, views)
        self._deaths = 0
        self._workers: list[_Worker] = []
        try:
            self._workers += [_Worker(*self._settings) for _ in range(count)]
            for worker in self._workers:
                self._open(worker)
        except BaseException:
            self.close()
            raise

    def view_many(self, fields: Iterable[Sourced]) -> Iterator[Answer]:
        """As ``Classifier.view_many`` for pairs of a name and a field: lazily and in order.

        Whatever ``fields`` raises is raised again after the fields before it were answered.
        """
        source = iter(fields)
        done: dict[int, Answer] = {}
        begun = written = 0
        left: BaseException | None = None
        more = True
        while more or written < begun:
            while more and begun - written < AHEAD * len(self._workers):
                free = min(self._workers, key=lambda worker: len(worker.held))
                if len(free.held) >= HELD:
                    break
                try:
                    given = next(source)
                except StopIteration:
                    more = False
                except Exception as error:
                    more, left = False, error
                else:
                    free.give(begun, given)
                    begun += 1
            if written in done:
                yield done.pop(written)
                written += 1
            elif written < begun:
                self._collect(done)
        if left is not None:
            raise left

    def _collect(self, done: dict[int, Answer]) -> None:
        """Wait for an answer, or for the end of a worker, and take whatever is there."""
        lines = {worker.line: worker for worker in self._workers if worker.held}
        ready: list[Any] = wait(list(lines), _PATIENCE)
        for line in ready:
            worker = lines[line]
            try:
                answer = worker.line.recv()
            except (EOFError, ConnectionResetError):
                self._replace(worker, done)
                continue
            number, _ = worker.held.popleft()
            done[number] = answer
            self._deaths = 0

    def _replace(self, worker: _Worker, done: dict[int, Answer]) -> None:
        """A worker died: answer for the field it had at hand, and give the rest to a new one."""
        self._deaths += 1
        worker.end()
        code = worker.process.returncode
        if self._deaths >= MAX_DEATHS:
            raise UsageError(
                "workers_die",
                f"{MAX_DEATHS} workers ended one after another (exit {code}): there may be too "
                "little memory for so many: try fewer --workers",
            )
        fresh = _Worker(*self._settings)
        self._workers[self._workers.index(worker)] = fresh
        self._open(fresh)
        number, (name, _) = worker.held.popleft()
        error = FieldError(
            "worker_died",
            f"{name}: the process that read this field ended (exit {code}): try it alone, without "
            "--workers",
        )
        worker.held.appendleft((number, (name, error)))
        for number, given in worker.held:
            fresh.give(number, given)

    def _open(self, worker: _Worker) -> None:
        """Wait until a worker has its model; raise what kept it from that."""
        while not worker.line.poll(_PATIENCE):
            if worker.process.poll() is not None:
                break
        try:
            problem = worker.line.recv()
        except (EOFError, ConnectionResetError):
            worker.end()
            raise UsageError(
                "workers_die",
                f"a worker ended before it began (exit {worker.process.returncode}): "
                "try without --workers",
            ) from None
        if problem is not None:
            raise problem

    def close(self) -> None:
        """End all processes; may be called twice."""
        for worker in self._workers:
            if not worker.line.closed:
                worker.end()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()


def default_workers() -> int:
    """Processes that ``--workers 0`` starts: one for each usable core."""
    from allsub_edge.engines.base import usable_cores

    return min(usable_cores(), os.cpu_count() or 1)
