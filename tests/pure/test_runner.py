# SPDX-License-Identifier: GPL-3.0-or-later
"""The test runner itself: what fails, crashes or does not run must not look like success."""

import sys
from pathlib import Path

import pytest

from tools import testing

PYTHON = Path(sys.executable)


def run(folder, text):
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_it.py").write_text(text)
    return testing.pytest("sample", PYTHON, folder, ["-p", "no:cacheprovider"])


def test_a_failing_test_makes_the_exit_code_non_zero(tmp_path, capsys):
    tally = run(tmp_path, "def test_good(): pass\ndef test_bad(): assert False\n")
    assert (tally.passed, tally.failed) == (1, 1)
    assert testing.conclude(tally, 0.0) == 1
    printed = capsys.readouterr().out
    assert (
        "FAILED  sample: test_it::test_bad" in printed.replace(".test_it", "test_it") or "test_bad" in printed
    )
    assert printed.rstrip().endswith("1 passed, 1 failed, 0 skipped")


def test_an_error_in_a_fixture_counts(tmp_path):
    tally = run(tmp_path, "import pytest\n@pytest.fixture\ndef f(): raise OSError\ndef test_it(f): pass\n")
    assert tally.failed == 1


def test_a_file_that_cannot_be_imported_counts(tmp_path):
    assert run(tmp_path, "import no_such_module_at_all\n").failed >= 1


@pytest.mark.parametrize("end", ["os._exit(0)", "os.kill(os.getpid(), 9)"])
def test_a_crash_counts(tmp_path, end):
    tally = run(tmp_path, f"import os\ndef test_good(): pass\ndef test_end(): {end}\n")
    assert testing.conclude(tally, 0.0) == 1


def test_no_test_is_no_success(tmp_path):
    tally = run(tmp_path, "")
    assert tally.failed == 1
    assert testing.conclude(testing.Tally(), 0.0) == 1


def test_skips_are_named(tmp_path, capsys):
    tally = run(tmp_path, "import pytest\ndef test_good(): pass\ndef test_no(): pytest.skip('no moon')\n")
    assert testing.conclude(tally, 0.0) == 0
    printed = capsys.readouterr().out
    assert "test_no" in printed and "no moon" in printed
    assert printed.rstrip().endswith("1 passed, 0 failed, 1 skipped")


def test_an_unknown_layer_is_refused(capsys):
    assert testing.run(["purr"]) == 2
    assert "no layer purr" in capsys.readouterr().out


@pytest.mark.parametrize("frames", ["5", "5:", "a:b", "9:3", "3:3", "0-20"])
def test_a_wrong_range_for_the_demo_is_told_before_anything_is_set_up(tmp_path, monkeypatch, capsys, frames):
    import build_addon
    from tools import environments

    monkeypatch.setattr(environments, "worker", lambda: pytest.fail("it was set up"))
    assert build_addon.main(["demo", "--frames", frames, "--out", str(tmp_path / "out")]) == 2
    assert "A:B" in capsys.readouterr().out and not list(tmp_path.iterdir())
