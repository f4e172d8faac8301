"""A second thread that computes while its owner waits for something else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")


class Task(Generic[T]):
    """A call that was handed to a :class:`Helper`."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        # Locked until there is a result: an Event would take three times as long.
        self._done = threading.Lock()
        self._done.acquire()
        self._value: list[T] = []
        self._error: BaseException | None = None

    def run(self) -> None:
        """Make the call; for the helper's thread."""
        try:
            self._value.append(self._call())
        except BaseException as error:  # it belongs to whoever asks for the result
            self._error = error
        self._done.release()

    def result(self) -> T:
        """Wait for the call; gives its value, or raises what it raised."""
        with self._done:
            pass
        if self._error is not None:
            raise self._error
        return self._value[0]


class Helper:
    """One thread, started by the first call; it ends with its owner's process or by ``close``.

    The standard library's executors would do, but importing them takes longer than a field.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._waiting: SimpleQueue[Task[object] | None] = SimpleQueue()

    def start(self, call: Callable[[], T]) -> Task[T]:
        """Begin a call, after those begun before it; its value comes by ``Task.result``."""
        # A process that was forked has the object but not the thread.
        if self._thread is None or not self._thread.is_alive():
            self._waiting = SimpleQueue()
            self._thread = threading.Thread(
                target=_work, args=(self._waiting,), name="allsub-edge helper", daemon=True
            )
            self._thread.start()
        task = Task(call)
        self._waiting.put(task)  # type: ignore[arg-type]
        return task

    def close(self) -> None:
        """End the thread once it has done what it was given; may be called twice."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread = None


def _work(waiting: SimpleQueue[Task[object] | None]) -> None:
    while (task := waiting.get()) is not None:
        task.run()
        del task  # and the field with it, however long the next one takes to come
