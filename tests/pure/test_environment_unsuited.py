# SPDX-License-Identifier: GPL-3.0-or-later
"""The set-up on machines that do not suit what is asked for, and with Pythons that answer nothing."""

import os

import pytest

from lgd_blender_addon._bridge import LgdError
from lgd_blender_addon.worker import environment, environment_check, environment_plan, environment_python
from lgd_blender_addon.worker.environment_hardware import Probe, choose

RTX_3060 = "NVIDIA GeForce RTX 3060, 535.183.01, 8.6, 12288 MiB\n"
OLD_DRIVER = "Tesla T4, 470.82.01, 7.5, 15360 MiB\n"
ROCMINFO = "*******\nAgent 2\n*******\n  Name: gfx1100\n  Marketing Name: AMD Radeon RX 7900 XTX\n  Device Type: GPU\n"


@pytest.mark.parametrize(
    ("found", "wanted", "kind", "tag"),
    [
        (Probe("Linux", "x86_64"), "cuda", "cuda", "cu126"),  # its driver may be on its way
        (Probe("Linux", "x86_64", nvidia=OLD_DRIVER), "cuda", "cuda", "cu126"),
        (Probe("Linux", "x86_64", nvidia=RTX_3060, rocm=ROCMINFO), "cpu", "cpu", "cpu"),
        (Probe("Linux", "x86_64", rocm=ROCMINFO, rocm_version="5.4.0-72"), "rocm", "rocm", "rocm7.2"),
        (Probe("Windows", "x86_64", rocm=ROCMINFO), "rocm", "cpu", "cpu"),
        (Probe("Darwin", "arm64", mac_version="15.3.1"), "cpu", "cpu", ""),
        (Probe("Darwin", "arm64", mac_version="12.7"), "mps", "mps", ""),
    ],
)
def test_a_build_that_the_machine_does_not_suggest(found, wanted, kind, tag):
    build = choose(found, wanted)
    assert (build.kind, build.tag) == (kind, tag) and build.sentence.endswith(".")


def test_no_plan_for_a_mac_with_an_intel_processor(tmp_path, monkeypatch):
    monkeypatch.setattr(environment_plan, "probe", lambda: Probe("Darwin", "x86_64", mac_version="14.5"))
    with pytest.raises(LgdError, match="Intel"):
        environment.plan(tmp_path, smplx=False)
    monkeypatch.setattr(environment_plan, "probe", lambda: Probe("Darwin", "arm64", mac_version="14.5"))
    assert environment.plan(tmp_path, smplx=True).torch.kind == "mps"


@pytest.mark.skipif(os.name == "nt", reason="makes a shell script as interpreter")
@pytest.mark.parametrize(
    ("does", "told"),
    [("echo 'no libpython' >&2; exit 127", "ended with code 127 no libpython"), ("exec sleep 5", "no answer within"), ("", "ended with code 0")],
)
def test_check_says_what_a_python_does_that_answers_nothing(tmp_path, monkeypatch, does, told):
    monkeypatch.setattr(environment_check, "TIMEOUT", 0.3)
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\n{does}\n")
    path.chmod(0o755)
    monkeypatch.setattr(environment_check, "ask", lambda path: environment_python.Interpreter(str(path), (3, 11, 7), "chosen"))
    _, finding = environment.check(path, modules={"torch": ("torch", True, "everything")})
    assert not finding.ok and told in finding.sentence
