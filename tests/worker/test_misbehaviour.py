# SPDX-License-Identifier: GPL-3.0-or-later
"""Workers that break the rules: whatever they do, each job ends once, with a sentence, and a next job can start."""

import shutil
import sys
import time
from dataclasses import replace

import pytest
from worker_desk import QUICK, alive, until

from lgd_blender_addon.session import Session
from lgd_blender_addon.worker.job import State

READY = """
import json, os, sys, time
def say(id, type, **fields):
    sys.stdout.write(json.dumps({"v": 1, "id": id, "type": type, **fields}) + "\\n")
    sys.stdout.flush()
def ask():
    while True:
        line = sys.stdin.readline()
        if not line:
            sys.exit()
        request = json.loads(line)
        if request["type"] != "ping":
            return request
say(0, "ready", version="1", pid=os.getpid())
"""


def fails(desk, source: str, code: str, seconds: float = 6.0):
    desk.program(source)
    job = desk.over(desk.fit(), seconds)
    assert job.state is State.FAILED and job.error.code == code, job.error
    assert job.error.text and desk.types(job).count("error") == 1
    assert desk.over(desk.obedient().fit()).state is State.DONE
    return job


def test_dies_at_once(desk):
    job = fails(desk, "import sys; sys.exit('no module named torch')", "worker_died")
    assert "no module named torch" in job.error.hint


def test_what_a_python_lacks_is_told_first(desk):
    job = fails(desk, "import sys\nprint('note', file=sys.stderr)\nsys.stderr.write('The package torch is missing. Install it there.\\n')\nsys.exit(4)", "setup_incomplete")
    assert job.error.text == "The package torch is missing. Install it there." and job.error.action == "lgd.open_preferences"


@pytest.mark.skipif(sys.platform == "win32", reason="looks for a program that Windows has not")
def test_a_program_that_is_no_python_is_told(desk):
    desk.obedient()
    desk.session.configure(shutil.which("true"), desk.folder / "worker", desk.folder / "user")
    job = desk.over(desk.fit())
    assert job.error.code == "setup_incomplete" and "is no Python" in job.error.text
    assert "Name another Python in the preferences" in job.error.hint and job.error.action == "lgd.open_preferences"


def test_a_broken_program_shows_its_traceback(desk):
    job = fails(desk, "import nowhere_to_be_found", "worker_died")
    assert "nowhere_to_be_found" in job.error.hint


def test_garbage_after_ready(desk):
    fails(
        desk,
        READY + "ask()\nsys.stdout.buffer.write(b'\\x00\\xff{]\\n'); sys.stdout.flush(); time.sleep(60)",
        "bad_message",
    )


def test_garbage_without_end_before_ready(desk):
    fails(desk, "while True: print('x' * 1000)", "bad_message")


def test_a_few_prints_before_ready_are_put_up_with(desk):
    desk.program(
        "print('hello from a site customisation')\n" + READY + "id = ask()['id']\nsay(id, 'cancelled')\nask()"
    )
    assert desk.over(desk.fit()).state is State.CANCELLED
    assert "site customisation" in (desk.folder / "user" / "logs" / "worker.log").read_text()


def test_a_huge_line(desk):
    fails(
        desk,
        READY + "ask()\nsys.stdout.write('x' * 5_000_000); sys.stdout.flush(); time.sleep(60)",
        "bad_message",
    )


def test_silence_before_ready(desk):
    desk.session = Session(replace(QUICK, start=0.5))
    desk.program("import time; time.sleep(60)")
    job = desk.over(desk.fit(), 3.0)
    assert job.error.code == "worker_silent" and "did not start" in job.error.text


def test_silence_while_it_works(desk):
    desk.program(
        READY + "id = ask()['id']\nsay(id, 'progress', stage='fit', done=1, total=2)\ntime.sleep(60)"
    )
    job = desk.fit()
    desk.pump(lambda: job.done == 1)
    pid = desk.session.worker_pid
    desk.over(job, 5.0)
    assert job.error.code == "worker_silent"
    until(lambda: not alive(pid), 5.0)
    assert desk.over(desk.obedient().fit()).state is State.DONE


def test_a_long_job_that_answers_pings_is_not_silent(desk):
    desk.obedient(
        "def long(request, task):\n    time.sleep(2.5)\n    return quick(request, task)\nJOBS['long'] = long"
    )
    assert desk.over(desk.fit("long")).state is State.DONE


def test_another_version(desk):
    job = fails(
        desk,
        'import time\nprint(\'{"v":99,"id":0,"type":"ready"}\', flush=True); time.sleep(60)',
        "protocol_mismatch",
    )
    assert job.error.action


def test_an_old_worker_refuses_us(desk):
    fails(
        desk,
        READY
        + "ask()\nsay(0, 'error', code='protocol_mismatch', text='Another version.', hint='', action='')\ntime.sleep(60)",
        "protocol_mismatch",
    )


def test_two_terminals_and_messages_for_nobody(desk):
    desk.program(
        READY + "id = ask()['id']\nsay(77, 'result', value={})\nsay(id, 'cancelled')\n"
        "say(id, 'error', code='internal', text='x', hint='', action='')\nsay(id, 'log', text='late')\nask()"
    )
    job = desk.over(desk.fit())
    time.sleep(0.1)
    desk.events += desk.session.pump()
    assert job.state is State.CANCELLED and desk.types(job) == ["cancelled"]


def test_it_closes_its_output_and_lives_on(desk):
    fails(desk, READY + "ask()\nos.close(1)\ntime.sleep(60)", "worker_died")


def test_it_dies_while_a_child_holds_the_pipe(desk):
    source = "ask()\nimport subprocess\nsubprocess.Popen([sys.executable, '-c', 'import time; time.sleep(4)'])\nos._exit(5)"
    job = fails(desk, READY + source, "worker_died")
    assert "exit code 5" in job.error.text


@pytest.mark.parametrize("path", ["/etc/hostname", "../../../etc/hostname", "OUT/../x", "OUT/missing.npz"])
def test_files_outside_the_jobs_folder(desk, path):
    source = f"r = ask()\npath = {path!r}.replace('OUT', r['out'])\nopen(r['out'] + '/../x', 'w').close()\n"
    fails(
        desk,
        READY + source + "say(r['id'], 'result', value={'motions': [path]})\ntime.sleep(60)",
        "bad_message",
    )


def test_stray_prints_do_not_reach_the_protocol(desk):
    desk.obedient(
        """
        def chatty(request, task):
            print("a python print", flush=True)
            sys.__stdout__.write("another\\n"); sys.__stdout__.flush()
            os.write(1, b"a print in C\\n")
            import ctypes
            if os.name == "posix":
                libc = ctypes.CDLL(None)
                libc.puts(b"libc's own"); libc.fflush(None)
            os.system("echo a child")
            assert sys.stdin.read() == ""
            return quick(request, task)
        JOBS["chatty"] = chatty
        """
    )
    job = desk.over(desk.fit("chatty"))
    assert job.state is State.DONE, job.error
    desk.session.shutdown(3.0)
    log = (desk.folder / "user" / "logs" / "worker.log").read_text()
    for words in ("a python print", "another", "a print in C", "a child"):
        assert words in log


def test_endless_stderr_fills_no_disk_and_no_pipe(desk):
    desk.obedient(
        """
        def loud(request, task):
            for n in range(400):
                print("w" * 10000, file=sys.stderr)
            return quick(request, task)
        JOBS["loud"] = loud
        """
    )
    assert desk.over(desk.fit("loud")).state is State.DONE
    logs = list((desk.folder / "user" / "logs").iterdir())
    assert len(logs) == 2 and sum(log.stat().st_size for log in logs) < 3 << 20
