# SPDX-License-Identifier: GPL-3.0-or-later
"""The real worker program on its pipe: handshake, quick answers, lines that are no requests, exactly one terminal each."""

import signal
import subprocess
import sys
import time

import pytest
from worker_desk import OBEDIENT, ROOT, Desk

from bridge import protocol
from lgd_blender_addon.worker.process import Launch


class Pipe:
    """A worker without a client: lines in, messages out."""

    def __init__(self, folder, tmp_path):
        launch = Launch(sys.executable, folder, tmp_path)
        self.process = subprocess.Popen(
            launch.command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=launch.environment()
        )

    def say(self, *lines: bytes) -> None:
        self.process.stdin.write(b"".join(lines))
        self.process.stdin.flush()

    def ask(self, id: int, type: str, **fields) -> None:
        self.say(protocol.encode(protocol.message(type, id, **fields)))

    def hear(self) -> dict:
        return protocol.decode(self.process.stdout.readline())

    def terminal(self, id: int) -> dict:
        while (message := self.hear())["type"] not in protocol.TERMINAL or message["id"] != id:
            pass
        return message

    def close(self) -> int:
        self.process.stdin.close()
        try:
            return self.process.wait(5)
        finally:
            self.process.kill()
            self.process.stdout.close()


@pytest.fixture
def pipe(tmp_path):
    Desk(tmp_path).program(OBEDIENT.replace("EXTRA", ""))
    pipe = Pipe(tmp_path / "worker", tmp_path)
    yield pipe
    if pipe.process.poll() is None:
        pipe.close()


def test_the_real_worker_is_ready_before_torch(tmp_path):
    pipe = Pipe(ROOT, tmp_path)
    start = time.monotonic()
    ready = pipe.hear()
    assert ready["type"] == "ready" and ready["id"] == 0 and time.monotonic() - start < 3
    pipe.ask(1, "hello")
    about = pipe.terminal(1)["value"]
    assert about["jobs"] == ["describe_body", "detect", "fit", "read_keypoints"] and about["version"] == ready["version"]
    pipe.ask(2, "ping")
    assert pipe.terminal(2)["type"] == "result"
    pipe.ask(3, "shutdown")
    assert pipe.terminal(3)["type"] == "result"
    assert pipe.process.wait(3) == 0
    pipe.close()


def test_end_of_input_ends_it(pipe):
    assert pipe.hear()["type"] == "ready"
    assert pipe.close() == 0


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to send there")
def test_an_interrupt_in_the_terminal_is_meant_for_blender(pipe):
    assert pipe.hear()["type"] == "ready"
    pipe.process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    pipe.ask(1, "ping")
    assert pipe.hear() == protocol.message("result", 1, value={})


def test_end_of_input_ends_a_deaf_job(pipe, tmp_path):
    pipe.ask(1, "fit", keypoints="k", mode="deaf", out=str(tmp_path))
    while pipe.hear()["type"] != "progress":
        pass
    assert pipe.close() == 0


@pytest.mark.parametrize(
    ("line", "code", "id"),
    [
        (b"no json\n", "bad_message", 0),
        (b"\n", "bad_message", 0),
        (b'{"v":1,"id":9,"type":"sing"}\n', "bad_message", 9),
        (b'{"v":1,"id":9,"type":"ready","version":"1","pid":1}\n', "bad_message", 9),
        (b'{"v":1,"id":9,"type":"fit","keypoints":"k","out":"relative"}\n', "bad_message", 9),
        (b'{"v":1,"id":9,"type":"fit","keypoints":"k","out":"/no/such/folder"}\n', "bad_message", 9),
        (b'{"v":1,"id":9,"type":"describe_body","out":"/tmp"}\n', "bad_message", 9),
        (b'{"v":2,"id":9,"type":"fit"}\n', "protocol_mismatch", 9),
        (b"x" * 3_000_000 + b"\n", "bad_message", 0),
    ],
    ids=range(9),
)
def test_what_is_no_request_gets_one_error(pipe, line, code, id):
    assert pipe.hear()["type"] == "ready"
    pipe.say(line)
    message = pipe.hear()
    assert (message["type"], message["code"], message["id"]) == ("error", code, id)
    pipe.ask(10, "ping")
    assert pipe.hear() == protocol.message("result", 10, value={})


def test_one_job_at_a_time_and_one_terminal_each(pipe, tmp_path):
    pipe.ask(1, "fit", keypoints="k", mode="patient", out=str(tmp_path))
    pipe.ask(2, "fit", keypoints="k", mode="quick", out=str(tmp_path))
    assert pipe.terminal(2)["code"] == "busy"
    pipe.ask(3, "cancel", job=99)
    assert pipe.terminal(3)["value"]["running"] is False
    pipe.ask(4, "cancel", job=1)
    seen = []
    while len(seen) < 2:
        message = pipe.hear()
        if message["type"] in protocol.TERMINAL:
            seen.append((message["id"], message["type"]))
    assert sorted(seen) == [(1, "cancelled"), (4, "result")]
    pipe.ask(5, "fit", keypoints="k", out=str(tmp_path))
    assert pipe.terminal(5)["type"] == "result"
    pipe.ask(6, "ping")
    assert pipe.hear()["id"] == 6


def test_progress_is_thinned_but_ends(tmp_path):
    Desk(tmp_path).obedient(
        """
        def many(request, task):
            for n in range(20000):
                task.progress("fit", n + 1, 20000)
            return quick(request, task)
        JOBS["many"] = many
        """
    )
    pipe = Pipe(tmp_path / "worker", tmp_path)
    pipe.ask(1, "fit", keypoints="k", mode="many", out=str(tmp_path))
    found = []
    while (message := pipe.hear())["type"] != "result":
        found.append(message)
    done = [m["done"] for m in found if m["type"] == "progress" and m["total"] == 20000]
    assert done[0] == 1 and done[-1] == 20000 and len(done) < 200
    pipe.close()


def test_files_outside_of_a_jobs_folder_are_held_back(tmp_path):
    """The session looks for itself, too."""
    Desk(tmp_path).obedient("def out(request, task): return {'motions': [os.__file__]}\nJOBS['out'] = out")
    pipe = Pipe(tmp_path / "worker", tmp_path)
    pipe.ask(1, "fit", keypoints="k", mode="out", out=str(tmp_path))
    message = pipe.terminal(1)
    assert (message["type"], message["code"]) == ("error", "bad_message") and "outside" in message["text"]
    pipe.close()
