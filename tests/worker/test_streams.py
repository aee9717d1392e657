# SPDX-License-Identifier: GPL-3.0-or-later
"""Standard streams that are closed, or that nobody reads any more, end no work."""

import os
import subprocess
import sys

import pytest
from worker_desk import ROOT

np = pytest.importorskip("numpy")
pytest.importorskip("torch", reason="torch is not installed")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no shell to close streams with")


@pytest.fixture
def points(tmp_path):
    """A file of keypoints, of one frame."""
    person = np.random.default_rng(0).uniform(100, 400, (1, 17, 2))
    np.savez(tmp_path / "k.npz", keypoints=person, confidence=np.ones((1, 17)), layout="coco17", image_size=[640, 480])
    return tmp_path / "k.npz"


def fit(points, redirected):
    """`bridge fit` with a redirection of the shell's: exit code, and the names of the files there are afterwards."""
    words = f'"$0" -m bridge fit "$1" -o "$2" {redirected}'
    arguments = [sys.executable, str(points), str(points.with_name("m.npz"))]
    environment = {**os.environ, "LGD_HOME": str(points.parent.parent / "home"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["sh", "-c", words, *arguments], capture_output=True, text=True, cwd=ROOT, env=environment)
    return done.returncode, sorted(path.name for path in points.parent.iterdir()), done


@pytest.mark.parametrize("redirected", (">&-", "2>&-", "<&-", ">&- 2>&- <&-"))
def test_a_closed_stream_ends_no_fit(points, redirected):
    code, files, done = fit(points, redirected)
    assert code == 0 and files == ["k.npz", "m.npz"], done.stderr
    if "2" in redirected:
        assert not any(word in done.stdout for word in ("read\n", "fit\n")), "messages came among the results"


def test_messages_that_nobody_reads_end_no_fit(points):
    read, write = os.pipe()
    os.close(read)
    environment = {**os.environ, "LGD_HOME": str(points.parent.parent / "home")}
    done = subprocess.run(
        [sys.executable, "-m", "bridge", "fit", str(points), "-o", str(points.with_name("m.npz"))],
        stdout=subprocess.PIPE, stderr=write, cwd=ROOT, env=environment,
    )  # fmt: skip
    os.close(write)
    assert done.returncode == 0 and points.with_name("m.npz").is_file() and b"m.npz" in done.stdout


def test_a_fault_that_nobody_reads_keeps_its_exit_code(points):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-m", "bridge", "fit", "none.npz"], stderr=write, cwd=ROOT)
    os.close(write)
    assert done.returncode == 2
