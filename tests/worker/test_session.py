# SPDX-License-Identifier: GPL-3.0-or-later
"""The life of jobs over a real pipe, with a worker that keeps to the rules."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from worker_desk import QUICK, ROOT, Desk, alive, until

from lgd_blender_addon._bridge import LgdError
from lgd_blender_addon.session import Session, get
from lgd_blender_addon.worker.job import State
from lgd_blender_addon.worker.process import Launch, Log


def test_a_job_from_start_to_result(desk):
    told = []
    desk.obedient()
    job = desk.session.start("fit", {"keypoints": "k.npz"}, lambda job, event: told.append(event["type"]))
    assert job.state is State.STARTING and desk.session.busy is job
    desk.over(job)
    assert job.state is State.DONE and desk.session.busy is None
    assert desk.types(job) == told
    assert told[-1] == "result" and set(told[:-1]) == {"progress"}
    assert (job.stage, job.done, job.total) == ("fit", 4, 4)
    assert job.result["motions"] == [str(job.folder / "motion.npz")]
    assert (job.folder / "request.json").is_file()


def test_the_worker_stays_for_the_next_job(desk):
    desk.obedient()
    desk.over(desk.fit())
    pid = desk.session.worker_pid
    first, second = desk.fit(), desk.fit()
    assert second.state is State.QUEUED
    assert desk.over(second).state is State.DONE and first.state is State.DONE
    assert first.folder != second.folder
    assert desk.session.worker_pid == pid


def test_cancel_is_at_once_and_late_messages_are_dropped(desk):
    desk.obedient()
    job = desk.fit("patient")
    desk.pump(lambda: len(desk.types(job)) > 5)
    pid = desk.session.worker_pid
    start = time.monotonic()
    desk.session.cancel(job)
    assert job.state is State.CANCELLED and time.monotonic() - start < 0.1
    before = len(desk.types(job))
    other = desk.over(desk.fit())
    assert other.state is State.DONE
    assert desk.types(job)[before:] == ["cancelled"]
    assert desk.session.worker_pid == pid  # it heard, so it was kept


def test_cancel_of_a_deaf_job_ends_the_worker(desk):
    desk.obedient()
    job = desk.fit("deaf")
    desk.pump(lambda: job.done == 1)
    pid = desk.session.worker_pid
    start = time.monotonic()
    desk.session.cancel(job)
    desk.pump(lambda: "cancelled" in desk.types(job))
    assert job.state is State.CANCELLED and time.monotonic() - start < 1.0
    other = desk.over(desk.fit())
    assert other.state is State.DONE
    assert desk.session.worker_pid != pid and not alive(pid)


def test_a_deaf_worker_is_asked_to_end_before_it_is_killed(desk):
    desk.session = Session(replace(QUICK, cancel=0.1, terminate=60.0))
    desk.obedient()
    job = desk.fit("deaf")
    desk.pump(lambda: job.done == 1)
    pid = desk.session.worker_pid
    desk.session.cancel(job)
    until(lambda: not alive(pid), 5.0)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGTERM to ignore there")
def test_the_ladder_ends_with_kill(desk):
    desk.obedient(  # in the job: the server itself has SIGTERM end the process
        """
        import signal
        def stone(request, task):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            deaf(request, task)
        JOBS["stone"] = stone
        """
    )
    job = desk.fit("stone")
    desk.pump(lambda: job.done == 1)
    pid = desk.session.worker_pid
    desk.session.cancel(job)
    desk.fit()
    desk.pump(lambda: desk.session.worker_pid not in (None, pid), 5.0)
    assert not alive(pid), "two workers would share the memory"


def test_cancel_while_the_worker_starts(desk):
    desk.obedient("time.sleep(0.3)")
    job = desk.fit()
    assert not desk.session.pump() and job.state is State.STARTING
    desk.session.cancel(job)
    assert job.state is State.CANCELLED
    assert desk.over(desk.fit()).state is State.DONE
    assert desk.types(job) == ["cancelled"]


def test_cancel_of_a_queued_job(desk):
    desk.obedient()
    first, second = desk.fit(), desk.fit()
    desk.session.cancel(second)
    assert desk.over(first).state is State.DONE
    assert second.state is State.CANCELLED


def test_sigkill_of_the_worker(desk):
    desk.obedient("print('last words', file=sys.stderr, flush=True)")
    job = desk.fit("deaf")
    desk.pump(lambda: job.done == 1)
    os.kill(desk.session.worker_pid, signal.SIGKILL if sys.platform != "win32" else signal.SIGTERM)
    desk.over(job, 3.0)
    assert job.state is State.FAILED and job.error.code == "worker_died"
    assert "last words" in job.error.hint and job.error.action
    assert desk.types(job).count("error") == 1
    assert desk.over(desk.fit()).state is State.DONE  # a new worker


def test_the_job_dies_with_its_worker_while_the_next_waits(desk):
    desk.obedient("def crash(request, task): os._exit(3)\nJOBS['crash'] = crash")
    first, second = desk.fit("crash"), desk.fit()
    assert desk.over(second).state is State.DONE
    assert first.error.code == "worker_died" and "exit code 3" in first.error.text


def test_release_frees_the_worker(desk):
    desk.obedient()
    desk.over(desk.fit())
    pid = desk.session.worker_pid
    desk.session.release()
    assert desk.session.worker_pid is None
    until(lambda: not alive(pid), 3.0)
    assert desk.over(desk.fit()).state is State.DONE


def test_release_ends_the_job_that_runs(desk):
    desk.obedient()
    job = desk.fit("patient")
    desk.pump(lambda: len(desk.types(job)) > 2)
    desk.session.release()
    assert job.state is State.CANCELLED and desk.session.busy is None
    assert desk.over(desk.fit()).state is State.DONE and desk.types(job)[-1] == "cancelled"


def test_a_python_that_is_changed_during_a_job_has_the_next(desk):
    desk.obedient()
    job = desk.fit("patient")
    desk.pump(lambda: len(desk.types(job)) > 2)
    first = desk.session.worker_pid
    other = desk.folder / "other" / Path(sys.executable).name
    other.parent.mkdir()
    other.symlink_to(sys.executable)
    launch = desk.session._launch
    desk.session.configure(str(other), launch.folder, launch.user_folder)
    desk.session.cancel(job)
    assert desk.over(desk.fit()).state is State.DONE
    second = desk.session.worker_pid
    assert second != first and Path(f"/proc/{second}/cmdline").read_bytes().startswith(str(other).encode())


def test_terminate_ends_a_busy_worker(desk):
    desk.obedient()
    job = desk.fit("patient")
    desk.pump(lambda: len(desk.types(job)) > 2)
    os.kill(desk.session.worker_pid, signal.SIGTERM)
    desk.over(job, 3.0)
    assert job.error.code == "worker_died"


def test_shutdown_during_a_job(desk):
    desk.obedient()
    job = desk.fit("patient")
    desk.pump(lambda: len(desk.types(job)) > 2)
    pid = desk.session.worker_pid
    desk.session.shutdown(wait=3.0)
    assert job.state is State.CANCELLED and not alive(pid)


def test_an_unexpected_exception_is_one_error(desk):
    desk.obedient("def wrong(request, task): return 1 / 0\nJOBS['wrong'] = wrong")
    job = desk.over(desk.fit("wrong"))
    assert job.error.code == "internal" and "ZeroDivisionError" in job.error.text
    assert desk.types(job) == ["error"]
    assert desk.over(desk.fit()).state is State.DONE


@pytest.mark.parametrize(
    "end", ["sys.exit(0)", "raise KeyboardInterrupt", "return None", "return {'x': float('nan')}"]
)
def test_a_job_cannot_end_the_worker_unheard(desk, end):
    desk.obedient(f"def odd(request, task): {end}\nJOBS['odd'] = odd")
    job = desk.over(desk.fit("odd"))
    assert job.state is State.FAILED
    assert desk.over(desk.fit()).state is State.DONE


def test_on_event_that_fails_ends_its_job_only(desk, capsys):
    def wrong(job, event):
        raise ValueError("scene is gone")

    desk.obedient()
    job = desk.session.start("fit", {"keypoints": "k", "mode": "patient"}, wrong)
    desk.pump(lambda: job.state is State.FAILED)
    assert "scene is gone" in job.error.text
    assert desk.over(desk.fit()).state is State.DONE


def test_what_cannot_start_says_so(desk, tmp_path):
    with pytest.raises(LgdError) as caught:
        Session().start("fit", {"keypoints": "k"})
    assert caught.value.code == "setup_incomplete"
    desk.session.configure(str(tmp_path / "gone"), tmp_path, tmp_path / "user")
    with pytest.raises(LgdError, match="is not there"):
        desk.fit()
    desk.obedient()
    for request in ({}, {"keypoints": "k", "focal": float("nan")}, {"keypoints": "k", "speed": 3}):
        with pytest.raises(LgdError):
            desk.session.start("fit", request)
    (tmp_path / "python").write_text("no program")
    desk.session.configure(str(tmp_path / "python"), tmp_path, tmp_path / "user")
    job = desk.over(desk.fit())
    assert job.error.code == "setup_incomplete" and "cannot be started" in job.error.text


def test_a_folder_that_cannot_be_written_is_told(desk):
    desk.obedient()
    (desk.folder / "user").write_text("a file in the folder's place")
    with pytest.raises(LgdError, match="cannot be written") as caught:
        desk.fit()
    assert caught.value.code == "disk" and desk.session.busy is None


def test_folders_of_past_jobs_go_but_the_newest_and_those_of_today(desk):
    jobs = desk.folder / "user" / "jobs"
    names = [f"20200101-0000{n:02d}-77-{n}-fit" for n in range(24)]
    for name in (*names, "0-mine"):
        (jobs / name).mkdir(parents=True)
        (jobs / name / "motion.npz").touch()
        if name != names[1]:
            os.utime(jobs / name, (1e9, 1e9))
    desk.obedient()
    assert {entry.name for entry in jobs.iterdir()} == {"0-mine", names[1], *names[4:]}


def test_the_start_command_and_its_variables(tmp_path, monkeypatch):
    for name in ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "VIRTUAL_ENV"):
        monkeypatch.setenv(name, "/blender")
    launch = Launch("/usr/bin/python", tmp_path, tmp_path / "user", {"MORE": "1"})
    assert launch.command()[1:5] == ["-I", "-X", "utf8", "-c"]
    variables = launch.environment()
    assert not {"PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "VIRTUAL_ENV"} & set(variables)
    assert variables["OMP_WAIT_POLICY"] == "PASSIVE" and variables["MORE"] == "1"
    assert variables["LGD_HOME"] == str(tmp_path / "user")


def test_the_log_keeps_lines_apart(tmp_path):
    log = Log(tmp_path / "logs" / "worker.log")
    for line in (b"cut in the midst", b"whole\n", b"x" * 600 + b"\n"):
        log.write(line)
    assert (tmp_path / "logs" / "worker.log").read_bytes() == b"cut in the midst\nwhole\n" + b"x" * 600 + b"\n"
    assert log.tail() == "cut in the midst\nwhole\n" + "x" * 500 and log.tail(1) == "x" * 500


def test_a_blenders_death_leaves_no_orphan(tmp_path):
    Desk(tmp_path).obedient()  # writes the program
    script = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from lgd_blender_addon.session import Session
session = Session()
session.configure(sys.executable, Path({str(tmp_path / "worker")!r}), Path({str(tmp_path / "user")!r}))
job = session.start("fit", {{"keypoints": "k", "mode": "deaf"}})
while job.done != 1:
    session.pump(); time.sleep(0.01)
print(session.worker_pid, flush=True)
time.sleep(60)
"""
    blender = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    pid = int(blender.stdout.readline())
    assert alive(pid)
    blender.kill()
    blender.wait()
    blender.stdout.close()
    until(lambda: not alive(pid), 5.0)


def test_a_normal_exit_during_a_job_hangs_nothing(tmp_path):
    Desk(tmp_path).obedient()
    script = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from lgd_blender_addon.session import Session
session = Session()
session.configure(sys.executable, Path({str(tmp_path / "worker")!r}), Path({str(tmp_path / "user")!r}))
job = session.start("fit", {{"keypoints": "k", "mode": "patient"}})
while not session.pump():
    time.sleep(0.01)
print(session.worker_pid, flush=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=True
    )
    until(lambda: not alive(int(done.stdout)), 5.0)
    assert not done.stderr


def test_there_is_one_session():
    assert get() is get()


def test_pumping_a_flood_never_holds_blender(desk):
    desk.obedient(
        """
        def flood(request, task):
            people = [[[100.25, 200.5, 0.75]] * 33]
            for n in range(3000):
                task.send("keypoints", frame=n, people=people, layout="blazepose33", image_size=[1920, 1080])
            return quick(request, task)
        JOBS["flood"] = flood
        """
    )
    job = desk.fit("flood")
    worst, frames = 0.0, 0
    end = time.monotonic() + 10
    while not job.over and time.monotonic() < end:
        start = time.thread_time()
        frames += len([0 for _, event in desk.session.pump() if event["type"] == "keypoints"])
        worst = max(worst, time.thread_time() - start)
        time.sleep(0.005)
    assert job.state is State.DONE and frames == 3000
    assert worst < 0.02


def test_the_layout_of_the_zip(tmp_path):
    """As an extension: `bridge/` inside the add-on, whose package has a long name and is not on sys.path."""
    addon = tmp_path / "bl_ext" / "user_default" / "lgd_blender_addon"
    ignore = shutil.ignore_patterns("__pycache__", "weights", "sculpt", "*.npz", "scene")
    shutil.copytree(ROOT / "lgd_blender_addon", addon, ignore=ignore)
    shutil.copytree(ROOT / "bridge", addon / "bridge", ignore=ignore)
    script = f"""
import sys, time
from pathlib import Path
sys.path.insert(0, {str(tmp_path)!r})
from bl_ext.user_default.lgd_blender_addon import _bridge, session
assert _bridge.FOLDER == Path({str(addon)!r}), _bridge.FOLDER
assert "bridge" not in sys.modules
session.get().configure(sys.executable, _bridge.FOLDER, Path({str(tmp_path / "user")!r}))
job = session.get().start("describe_body", {{"body": "none.npz"}})
while not job.over:
    session.get().pump(); time.sleep(0.01)
print(job.error.code)
"""
    command = [sys.executable, "-I", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, cwd=tmp_path)
    assert done.stdout.strip() == "model_file", done.stderr
