from __future__ import annotations

import threading
import time
import weakref

import numpy as np
import pytest

from allsub_edge.helper import Helper


def test_a_call_runs_in_a_thread_of_its_own_and_its_value_comes_back() -> None:
    helper = Helper()
    assert helper.start(threading.get_ident).result() != threading.get_ident()
    helper.close()
    helper.close()


def test_calls_run_in_the_order_in_which_they_were_started() -> None:
    helper, gate, seen = Helper(), threading.Event(), []
    first = helper.start(lambda: (gate.wait(10), seen.append(1)))
    second = helper.start(lambda: seen.append(2))
    assert seen == []
    gate.set()
    second.result()
    first.result()
    assert seen == [1, 2]
    helper.close()


def test_an_error_goes_to_whoever_asks_and_the_thread_lives_on() -> None:
    helper = Helper()

    def fails() -> None:
        raise LookupError("no")

    task = helper.start(fails)
    with pytest.raises(LookupError, match="no"):
        task.result()
    assert helper.start(lambda: 3).result() == 3
    helper.close()


def test_a_thread_that_is_gone_is_replaced() -> None:
    # As in a process that was forked, and after close.
    helper = Helper()
    first = helper.start(threading.current_thread).result()
    helper._waiting.put(None)
    first.join(10)
    assert helper.start(lambda: 4).result() == 4
    helper.close()
    assert helper.start(lambda: 5).result() == 5
    helper.close()


def test_what_a_call_worked_on_is_let_go() -> None:
    helper, field = Helper(), np.zeros(4)
    held = weakref.ref(field)
    task = helper.start(lambda field=field: int(field.sum()))
    assert task.result() == 0
    del task, field
    until = time.monotonic() + 10
    while held() is not None and time.monotonic() < until:
        time.sleep(0.001)
    assert held() is None
    helper.close()
