# SPDX-License-Identifier: GPL-3.0-or-later
"""A session for each test, whose worker is gone afterwards."""

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

from worker_desk import Desk, alive, until


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path)
    yield desk
    pid = desk.session.worker_pid
    desk.session.shutdown(wait=3.0)
    if pid:
        until(lambda: not alive(pid), 5.0)


@pytest.fixture
def calls(monkeypatch):
    """The fits asked for, with a fitter in the real one's place that only notes them."""
    from noted_fits import note_fits  # takes numpy

    return note_fits(monkeypatch)


@pytest.fixture
def bridge(monkeypatch, capsys, tmp_path):
    """Run a command in an own folder: exit code, standard output, standard error; new files on failure are refused."""
    from bridge import cli

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LGD_HOME", str(tmp_path.parent / f"{tmp_path.name}-home"))
    monkeypatch.setattr(cli, "_claim_stdout", lambda: sys.stdout)

    def run(*arguments):
        before = set(tmp_path.rglob("*"))
        code = cli.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        if code:
            assert set(tmp_path.rglob("*")) == before, "a failure left something behind"
        assert "Traceback" not in err
        return code, out, err

    return run
