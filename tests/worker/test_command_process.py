# SPDX-License-Identifier: GPL-3.0-or-later
"""The command as a process of its own: its streams, interrupts, and what it is without arguments."""

import os
import signal
import subprocess
import sys
import time

import pytest
from worker_desk import ROOT

np = pytest.importorskip("numpy")
pytest.importorskip("cv2", reason="opencv-python is not installed")

from commands import blank_video  # noqa: E402


def command(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "bridge", *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False, **options,
    )  # fmt: skip


def test_results_alone_reach_standard_output():
    code = "from bridge import cli; out = cli._claim_stdout(); print('stray'); print('result', file=out); out.flush()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout.split(), done.stderr.split()) == (["result"], ["stray"])


def test_bare_on_a_terminal_prints_help():
    pty = pytest.importorskip("pty")
    master, slave = pty.openpty()
    done = command(stdin=slave)
    os.close(slave)
    os.close(master)
    assert done.returncode == 0 and "selftest" in done.stdout


def test_bare_on_a_pipe_is_the_worker():
    done = command(input="")
    assert done.returncode == 0 and '"ready"' in done.stdout and done.stderr == ""


def test_train_and_evaluate_need_a_checkout(tmp_path):
    package = tmp_path / "bridge"
    package.mkdir()
    for name in ("__init__", "__main__", "cli", "errors", "faults", "models", "moving", "places"):
        (package / f"{name}.py").write_bytes((ROOT / "bridge" / f"{name}.py").read_bytes())
    for name in ("train", "evaluate", "record"):
        done = subprocess.run(
            [sys.executable, "-m", "bridge", name, "--mode", "paper"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 2 and done.stdout == ""
        assert "checkout" in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to send there")
@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP"])
def test_ctrl_c_and_a_closed_terminal(tmp_path, name):
    pytest.importorskip("mediapipe", reason="mediapipe is not installed")
    blank_video(tmp_path / "v.mp4", 100)
    process = subprocess.Popen(
        [sys.executable, "-m", "bridge", "detect", str(tmp_path / "v.mp4"), "-o", str(tmp_path / "k.npz")],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )  # fmt: skip
    end = time.monotonic() + 30
    while "10/100" not in process.stderr.readline() and time.monotonic() < end:
        pass
    process.send_signal(getattr(signal, name))
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130 and out == "" and "Traceback" not in err
    assert "Cancelled" in err
    assert [path.name for path in tmp_path.iterdir()] == ["v.mp4"]


def test_an_output_never_replaces_an_input(tmp_path):
    """`fit k.npz -o k.npz` is refused before anything is read, whatever way the name is spelled."""
    from bridge.commands import output_file
    from bridge.errors import LgdError

    file = tmp_path / "k.npz"
    file.write_bytes(b"kept")
    with pytest.raises(LgdError) as caught:
        output_file(tmp_path / "." / "k.npz", str(file))
    assert caught.value.code == "bad_input" and file.read_bytes() == b"kept"
    assert output_file(tmp_path / "m.npz", str(file)).name == "m.npz"
    for name in ("t_0.npz", "t.npz"):
        with pytest.raises(LgdError, match=name):
            output_file(tmp_path / "t.npz", str(tmp_path / name), numbered=True)
    for name in ("t_a.npz", "at_0.npz", "t_0.json"):
        assert output_file(tmp_path / "t.npz", str(tmp_path / name), numbered=True)


def test_pictures_with_a_few_json_files_beside_them_are_pictures(tmp_path):
    from bridge.commands import is_keypoints

    for name in ("1.png", "2.png", "meta.json"):
        (tmp_path / name).touch()
    assert not is_keypoints(str(tmp_path))
    (tmp_path / "2_keypoints.json").touch()
    assert is_keypoints(str(tmp_path))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no file that is always full")
def test_results_stay_where_nobody_reads_the_figures(tmp_path):
    from bridge.commands import _say

    with open("/dev/full", "w") as full:
        _say(["a figure"], full)
        with pytest.raises(OSError):
            full.close()


@pytest.mark.parametrize("arguments", (("train", "--mode", "x"), ("train", "--threads", "0"), ("evaluate", "--subset", "none"), ("record", "--clips", "3")))
def test_options_of_train_and_evaluate_are_refused_in_one_sentence(arguments):
    pytest.importorskip("torch", reason="torch is not installed")
    done = command(*arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and f"bridge {arguments[0]} --help" in done.stderr
