# SPDX-License-Identifier: GPL-3.0-or-later
"""The pump: takes the worker's messages in, shows how far the run is, and has its result built at the end.

Blender's data is touched here and nowhere else while a job runs. In the interface a timer calls `tick`; in background mode and tests `finish` is a plain loop.
"""

import contextlib
import time
import traceback
from dataclasses import replace

import bpy
import numpy as np
from bpy.app.translations import pgettext_iface as iface

from .. import overlay, preferences, session
from .._bridge import LgdError, counting
from ..scene.footage import on_its_side
from . import bodies, busy, status_bar
from .detected import keep, remember
from .request import Plan

INTERVAL = 0.05
SETTLE = 30.0  # s that the timer goes on while the worker's stop ladder may run

_run: "Run | None" = None
pending: "Run | None" = None


class Run:
    """A plan on its way: the steps that are left, and what came of those that are done."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self.left = list(plan.requests)
        self.job = None
        self.body = None
        self.detected = None
        self.fitted = None
        self.error: LgdError | None = None
        self.over = False
        self.warnings: list[str] = list(plan.notes)
        self.built: list = []

    def tell(self, text: str) -> None:
        """Add a remark for the panel, once."""
        if text and text not in self.warnings:
            self.warnings.append(text)


def current() -> Run | None:
    """The run that is on its way."""
    return _run


def status():
    """WindowManager.lgd, or None while the add-on comes or goes."""
    manager = bpy.context.window_manager
    return getattr(manager, "lgd", None) if manager else None


def start(plan: Plan) -> Run:
    """Begin a plan; raises LgdError where it cannot even start. Nothing of Blender's data changes."""
    global _run
    if _run is not None:
        raise LgdError("busy", "A job is running.", "Wait for it, or cancel it.")
    problem = preferences.missing()
    if problem:
        raise LgdError("setup_incomplete", problem, action="lgd.open_preferences")
    preferences.configure_session()
    run = Run(plan)
    _next(run)
    _run = run
    show = status()
    if show is not None:
        _wipe(show)
        show.running, show.title, show.done, show.total, show.remaining = True, plan.title, 0, 0, -1.0
    if plan.footage is not None and any(
        kind == "detect" or request.get("source") for kind, request in plan.requests
    ):
        overlay.begin(plan.footage)
    ensure_timer()
    return run


def _wipe(show) -> None:
    for name in ("code", "error", "hint", "action", "warnings", "summary", "rig", "stage"):
        setattr(show, name, "")


def _next(run: Run) -> None:
    """Ask for the next of the plan's requests; a body that is known needs no worker."""
    kind, request = run.left.pop(0)
    if kind == "describe_body":
        known = bodies.known(request["body"])
        if known is not None:
            run.body, run.over = known, not run.left
            return None if run.over else _next(run)
    if kind == "fit" and run.body:
        told = bodies.leave_other_bodies(run.plan.rigs, run.body)
        run.warnings += told
        request |= {"betas": bodies.kept_shapes(run.plan.people, run.plan.rigs)} if told else {}
    request = {name: value for name, value in request.items() if value is not None}
    run.job = session.get().start(kind, request, on_event)


def _told(warning: dict, footage) -> str:
    """A remark of the worker's; the frames at which footage is cut as Blender's that first show the next take."""
    if not warning.get("cuts") or footage is None:
        return warning["text"]
    places = np.flatnonzero(footage.table >= 0)
    frames = []
    for cut in warning["cuts"]:
        beyond = footage.table[places] >= cut
        other = places[beyond != beyond[0]]  # also where the strip is reversed
        if len(other):
            frames.append(footage.start + int(other[0]))
    return counting.cuts_text(sorted(frames), "of the scene") if frames else warning["text"]


def on_event(job, event: dict) -> None:
    """Called by the session for each message of the present job."""
    run = _run
    if run is None or job is not run.job:
        return
    kind = event["type"]
    if kind == "keypoints":
        if run.plan.footage is None or overlay.tracks.path == run.plan.footage.path:  # a box may be drawn over other footage by now
            overlay.add(event)
        run.tell(on_its_side(run.plan.footage, event["image_size"]))
    elif kind == "warning":
        run.warnings.append(_told(event, run.plan.footage))
    elif kind == "result":
        _take(run, job)
    elif kind == "error":
        run.error = job.error
        run.over = True
    elif kind == "cancelled":
        run.over = True


def _take(run: Run, job) -> None:
    try:
        if job.kind == "describe_body":
            run.body = bodies.keep(job.request.get("body"), job.result)
        elif job.kind in ("detect", "read_keypoints"):
            run.detected = job.result
        else:
            run.fitted = job.result
        if run.left:
            _next(run)
        else:
            run.over = True
    except LgdError as error:
        run.error, run.over = error, True


def tick() -> float | None:
    """One turn of the pump; returns the seconds to the next one, None where nothing is left to do."""
    began = time.perf_counter()
    try:
        session.get().pump()
        if _run is not None:
            if _run.job and _run.job.error and _run.error is None:  # a defect of ours in taking a message in, which the session has caught
                _run.error, _run.over = _run.job.error, True
            _show(_run)
            if _run.over and not _waits(_run):
                _end(_run)
    except Exception:  # noqa: BLE001 (a timer that raises is dropped by Blender, and the panel would hang)
        traceback.print_exc()
        cancel()
    ticks.append(time.perf_counter() - began)
    del ticks[:-5000]
    return INTERVAL if _run is not None else None


def _waits(run: Run) -> bool:
    """Whether a run's result is there, but cannot be taken in yet."""
    return run.over and run.error is None and (busy.rendering() or busy.dragging())


ticks: list[float] = []
"""Seconds that each of the last ticks took, for the tests."""


def _show(run: Run) -> None:
    show, job = status(), run.job
    if show is None or job is None:
        return
    show.stage, show.done, show.total = ("wait" if _waits(run) else job.stage), job.done, job.total
    show.remaining = -1.0 if job.remaining is None else job.remaining
    show.warnings = "\n".join(run.warnings)
    show.worker = session.get().worker_pid is not None
    redraw()
    status_bar.show(line(show))


STAGES = {
    "": "Starting the worker",
    "body": "Reading the body",
    "load": "Loading the detector",
    "read": "Reading the keypoints",
    "detect": "Finding the person",
    "background": "Looking at the background",
    "camera": "Finding the camera's path",
    "repair": "Checking the keypoints",
    "fit": "Solving the motion",
    "place": "Placing the body",
    "wait": "Waiting for Blender",
}
"""What the worker's stages are called in the interface."""


def amount(show) -> str:
    """How far the stage is: frames and remaining time."""
    parts = [f"{show.done} / {show.total}"] if show.total > 1 else []
    if show.remaining >= 0:
        left = round(show.remaining)
        parts.append(iface("{:d}:{:02d} left").format(left // 60, left % 60))
    return "   ".join(parts)


def line(show) -> str:
    """The run in one line: stage, frames, remaining time."""
    parts = ["LGD:", iface(STAGES.get(show.stage, show.title)), amount(show)]
    return "  ".join(part for part in parts if part)


def redraw() -> None:
    """Have the editors that show our panels or overlay drawn anew."""
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type in {"VIEW_3D", "SEQUENCE_EDITOR", "CLIP_EDITOR", "IMAGE_EDITOR"}:
                area.tag_redraw()


def _end(run: Run) -> None:
    """The run is over, well or not: free the panel, then build, as one undo step."""
    global pending
    _drop()
    show = status()
    keep(run)
    if run.error is None and run.detected is not None:
        remember(run, show)
        if not run.plan.build and run.job.kind == "detect":  # a list alone is nothing of the file's
            with _in_window():
                bpy.ops.ed.undo_push(message=run.plan.title)
    if run.error is None and run.fitted is not None and run.plan.build:
        pending = run
        try:
            _apply()
        except RuntimeError as error:
            if run.error is None:
                run.error = LgdError("internal", str(error).strip())
        finally:
            pending = None
        if run.error is not None:
            keep(run)
    if show is not None:
        show.warnings = "\n".join(run.warnings)
        if run.error is not None:
            show.code, show.error = run.error.code, run.error.text
            show.hint, show.action = run.error.hint, run.error.action
    redraw()


def _apply() -> None:
    # Asked for by Python, an operator makes no undo step unless told to (the second argument).
    with _in_window():
        bpy.ops.lgd.apply_result("EXEC_DEFAULT", True)


def _in_window():
    """The context of a window, which a timer has not; background mode has one that will do."""
    windows = bpy.context.window_manager.windows
    return contextlib.nullcontext() if bpy.app.background or not windows else bpy.context.temp_override(window=windows[0])


def _drop() -> None:
    global _run
    _run = None
    show = status()
    if show is not None:
        show.running = False
    status_bar.clear()


def cancel() -> None:
    """End the run for the user now; the worker is stopped behind."""
    run = _run
    if run is None:
        return
    if run.job is not None:
        session.get().cancel(run.job)
    keep(run)
    show = status()
    if show is not None:
        show.warnings = "\n".join(run.warnings)
    _drop()
    redraw()
    ensure_timer()


def finish(run: Run, timeout: float = 3600.0) -> Run:
    """Wait for a run in background mode. Raises its LgdError."""
    end = time.monotonic() + timeout
    while _run is run:
        tick()
        if time.monotonic() > end:
            cancel()
            raise LgdError("worker_silent", "The worker took too long.", "Start the job again.")
        time.sleep(0.01)
    if run.error is not None:
        raise run.error
    return run


# -- the timer and the handlers


def _timer() -> float | None:
    global _idle_since
    wait = tick()
    if wait is not None:
        _idle_since = None
        return wait
    # After a cancel the session still has the worker's stop ladder to see through.
    _idle_since = _idle_since or time.monotonic()
    return 0.5 if time.monotonic() - _idle_since < SETTLE and session.get().worker_pid else None


_idle_since: float | None = None


def ensure_timer() -> None:
    """Have `tick` called from now on, in the interface."""
    global _idle_since
    _idle_since = None
    if not bpy.app.background and not bpy.app.timers.is_registered(_timer):
        bpy.app.timers.register(_timer, first_interval=INTERVAL, persistent=True)


@bpy.app.handlers.persistent
def on_load(*_):
    """Another file is loaded: a run belongs to the file it was started in, and so does what was told of it and whom it found, which
    Blender keeps where it loads a file without its interface."""
    cancel()
    overlay.clear()
    show = status()
    if show is not None:
        _wipe(show)
        show.people.clear()


def attach() -> None:
    """Watch for files being loaded."""
    bpy.app.handlers.load_pre.append(on_load)


def detach() -> None:
    """End everything: run, timer, worker, handlers."""
    cancel()
    if bpy.app.timers.is_registered(_timer):
        bpy.app.timers.unregister(_timer)
    if on_load in bpy.app.handlers.load_pre:
        bpy.app.handlers.load_pre.remove(on_load)
    session.get().shutdown()


def results(run: Run):
    """What there is to build: (motion file, trace file or "", options) for each person that was chosen."""
    fitted, plan = run.fitted, run.plan
    numbers = [figure["person"] for figure in fitted.get("figures", [])] or list(
        range(len(fitted["motions"]))
    )
    traces = fitted.get("traces") or [""] * len(numbers)
    chosen = [row for row, number in enumerate(numbers) if number in plan.people]
    if not chosen:
        raise LgdError("no_person", "None of the people who were chosen could be solved.", "Tick others, or look at the skeletons.")
    for row in chosen:
        yield (
            fitted["motions"][row],
            traces[row] if row < len(traces) else "",
            replace(
                plan.options, number=numbers[row], people=max(len(fitted.get("people", ())), 1),
                rig=plan.rigs.get(numbers[row], 0),
            ),  # fmt: skip
        )
