# SPDX-License-Identifier: GPL-3.0-or-later
"""What a job makes of its events."""

from pathlib import Path

import pytest

from bridge import protocol
from lgd_blender_addon._bridge import LgdError
from lgd_blender_addon.worker.job import Job, State


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def job(clock):
    return Job("fit", {}, Path("/tmp"), clock=clock)


def event(type, **fields):
    return protocol.message(type, 1, **fields)


def test_life(job, clock):
    assert (job.state, job.elapsed, job.remaining, job.fraction) == (State.QUEUED, 0.0, None, None)
    job.asked(1)
    assert job.state is State.STARTING
    clock.now += 2
    assert job.apply(event("progress", stage="detect", done=0, total=10))
    assert (job.state, job.stage, job.remaining) == (State.RUNNING, "detect", None)
    clock.now += 2
    job.apply(event("progress", stage="detect", done=5, total=10))
    assert job.remaining == pytest.approx(2.0) and job.fraction == 0.5
    job.apply(event("progress", stage="fit", done=1, total=0))
    assert job.remaining is None and job.fraction is None
    clock.now += 1
    job.apply(event("result", value={"motions": []}))
    clock.now += 50
    assert (job.state, job.result, job.elapsed, job.error) == (State.DONE, {"motions": []}, 5.0, None)


def test_error_carries_all(job):
    job.asked(1)
    job.apply(event("error", code="no_person", text="T.", hint="H.", action="lgd.a"))
    assert job.state is State.FAILED and job.over
    assert isinstance(job.error, LgdError)
    assert (job.error.code, job.error.text, job.error.hint, job.error.action) == (
        "no_person",
        "T.",
        "H.",
        "lgd.a",
    )


def test_nothing_after_the_end(job):
    job.asked(1)
    job.cancel()
    assert not job.apply(event("result", value={}))
    assert (job.state, job.result) == (State.CANCELLED, None)
    job.cancel()
    assert job.state is State.CANCELLED


def test_warnings_are_told_once(job):
    job.asked(1)
    for _ in range(3):
        job.apply(event("warning", text="Slow footage."))
    assert job.warnings == ["Slow footage."]


def test_states_compare_with_text(job):
    assert job.state == "QUEUED"


def test_a_failure_on_our_side_ends_a_finished_job(job):
    job.asked(1)
    job.apply(event("result", value={}))
    job.fail(LgdError("internal", "Blender's side failed."))
    assert job.state is State.FAILED
