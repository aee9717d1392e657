# SPDX-License-Identifier: GPL-3.0-or-later
"""The set-up's choices on recorded answers of other machines' programs, its commands, and its sentences."""

import hashlib
import io
import os
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from lgd_blender_addon._bridge import LgdError
from lgd_blender_addon.worker import (
    environment,
    environment_check,
    environment_install,
    environment_plan,
    environment_python,
    environment_uv,
    requirements,
)
from lgd_blender_addon.worker.environment_hardware import Probe, choose, nvidia_cards, rocm_gpu, unsuited

# What nvidia-smi --query-gpu=name,driver_version,compute_cap,memory.total --format=csv,noheader prints.
RTX_4090 = "NVIDIA GeForce RTX 4090, 580.82.07, 8.9, 24564 MiB\n"
RTX_3060 = "NVIDIA GeForce RTX 3060, 535.183.01, 8.6, 12288 MiB\n"
GTX_1080 = "NVIDIA GeForce GTX 1080, 580.65.06, 6.1, 8192 MiB\n"
OLD_DRIVER = "Tesla T4, 470.82.01, 7.5, 15360 MiB\n"
KEPLER = "Tesla K80, 470.256.02, 3.7, 11441 MiB\n"
TWO = RTX_4090 + GTX_1080
NO_DEVICE = "No devices were found\n"
NOT_SUPPORTED = "NVIDIA Old Card, 580.00, [Not Supported], 2048 MiB\n"
ROCMINFO = """ROCk module version 6.12.12 is loaded
=====================
HSA Agents
=====================
*******
Agent 1
*******
  Name:                    AMD Ryzen 9 7950X 16-Core Processor
  Marketing Name:          AMD Ryzen 9 7950X 16-Core Processor
  Device Type:             CPU
*******
Agent 2
*******
  Name:                    gfx1100
  Uuid:                    GPU-0123456789abcdef
  Marketing Name:          AMD Radeon RX 7900 XTX
  Device Type:             GPU
"""
ROCMINFO_CPU = ROCMINFO.split("*******\nAgent 2")[0]


@pytest.mark.parametrize(
    ("found", "kind", "tag", "word"),
    [
        (Probe("Linux", "x86_64"), "cpu", "cpu", "No graphics card"),
        (Probe("Linux", "x86_64", nvidia=RTX_4090), "cuda", "cu130", "RTX 4090"),
        (Probe("Windows", "x86_64", nvidia=RTX_4090), "cuda", "cu130", "RTX 4090"),
        (Probe("Linux", "x86_64", nvidia=RTX_3060), "cuda", "cu126", "RTX 3060"),
        (Probe("Linux", "x86_64", nvidia=GTX_1080), "cuda", "cu126", "GTX 1080"),
        (Probe("Linux", "x86_64", nvidia=TWO), "cuda", "cu126", "cu126"),  # both cards must be able to run it
        (Probe("Linux", "x86_64", nvidia=OLD_DRIVER), "cpu", "cpu", "driver 470"),
        (Probe("Linux", "x86_64", nvidia=KEPLER), "cpu", "cpu", "too old"),
        (Probe("Linux", "x86_64", nvidia=NO_DEVICE), "cpu", "cpu", "No graphics card"),
        (Probe("Linux", "x86_64", nvidia=NOT_SUPPORTED), "cpu", "cpu", "No graphics card"),
        (Probe("Linux", "x86_64", rocm=ROCMINFO, rocm_version="6.4.1-83"), "rocm", "rocm7.2", "RX 7900"),
        (Probe("Linux", "x86_64", rocm=ROCMINFO, rocm_version="5.4.0-72"), "cpu", "cpu", "ROCm 5.4"),
        (Probe("Linux", "x86_64", rocm=ROCMINFO_CPU), "cpu", "cpu", "No graphics card"),
        (Probe("Linux", "x86_64", nvidia=RTX_3060, rocm=ROCMINFO), "cuda", "cu126", "RTX 3060"),
        (Probe("Windows", "x86_64"), "cpu", "cpu", "No graphics card"),
        (Probe("Darwin", "arm64", mac_version="15.3.1"), "mps", "", "Apple silicon"),
        (Probe("Darwin", "x86_64", mac_version="14.5"), "cpu", "", "Intel"),
    ],
)
def test_build_for_recorded_machines(found, kind, tag, word):
    build = choose(found)
    assert (build.kind, build.tag) == (kind, tag)
    assert word in build.sentence and build.sentence.endswith(".")


@pytest.mark.parametrize(
    ("found", "word"),
    [
        (Probe("Windows", "x86_64"), ""),
        (Probe("Linux", "x86_64"), ""),
        (Probe("Darwin", "arm64", mac_version="14.0"), ""),
        (Probe("Darwin", "arm64", mac_version="13.7.1"), "macOS 13.7.1 is too old"),  # torch 2.13 has macosx_14_0_arm64 alone
        (Probe("Darwin", "x86_64", mac_version="14.5"), "Intel"),
        (Probe("Windows", "arm64"), "Windows on arm64"),
        (Probe("Linux", "arm64"), "Linux on arm64"),
    ],
)
def test_machines_that_the_packages_do_not_come_for_are_told_before_anything_is_fetched(found, word, monkeypatch, tmp_path):
    assert (word in unsuited(found)) if word else not unsuited(found)
    monkeypatch.setattr(environment_plan, "probe", lambda: found)
    if not word:
        assert environment.plan(tmp_path, smplx=False)
        return
    with pytest.raises(LgdError, match=word):
        environment.plan(tmp_path, smplx=False)


@pytest.mark.parametrize(
    ("wanted", "kind", "tag"),
    [("cpu", "cpu", "cpu"), ("cuda", "cuda", "cu126"), ("rocm", "rocm", "rocm7.2"), ("pypi", "pypi", "")],
)
def test_a_build_that_is_asked_for_is_taken(wanted, kind, tag):
    build = choose(Probe("Linux", "x86_64", nvidia=RTX_3060), wanted)
    assert (build.kind, build.tag) == (kind, tag)


def test_parsers_survive_other_text():
    assert nvidia_cards("a, b\n,,,\nfailed because couldn't communicate with the NVIDIA driver") == []
    assert rocm_gpu("") == "" and rocm_gpu("Device Type: GPU") == "AMD GPU"


def test_windows_launcher():
    text = " -V:3.13 *        C:\\Python313\\python.exe\n -V:3.11          C:\\Users\\A B\\Python311\\python.exe\n -3.12-64 C:\\P12\\python.exe\n"
    assert environment_python.launcher_paths(text) == [
        "C:\\Users\\A B\\Python311\\python.exe",
        "C:\\P12\\python.exe",
    ]


@pytest.mark.skipif(os.name == "nt", reason="makes shell scripts as interpreters")
def test_find_takes_what_answers_and_suits(tmp_path, monkeypatch):
    def fake(folder, name, version, wide="true"):
        path = tmp_path / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'#!/bin/sh\necho \'[{list(version)}, "{path}", "x86_64", {wide}, "linux-x86_64"]\'\n')
        path.chmod(0o755)
        return str(path)

    good = fake("path", "python3.11", (3, 11, 9))
    fake("path", "python3.12", (3, 12, 1), wide="false")  # 32 bits
    pyenv = fake("pyenv/versions/3.12.4/bin", "python3.12", (3, 12, 4))
    fake("pyenv/versions/3.9.1/bin", "python3.9", (3, 9, 1))
    managed = fake("uv/cpython-3.11.10-linux-x86_64-gnu/bin", "python3.11", (3, 11, 10))
    blender = fake("blender", "python3.13", (3, 13, 0))
    broken = tmp_path / "path" / "python3"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "path") + os.pathsep + "/bin")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("UV_PYTHON_INSTALL_DIR", raising=False)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setattr(sys, "executable", blender)
    found = [entry.path for entry in environment_python.find(tmp_path / "uv")]
    assert found[:3] == [good, pyenv, managed]
    assert blender not in found
    every = [entry.path for entry in environment_python.find(tmp_path / "uv", suitable=False)]
    assert blender in every


def test_blenders_python_does_not_leak(monkeypatch):
    monkeypatch.setenv("PYTHONHOME", "/blender")
    monkeypatch.setenv("PYTHONPATH", "/blender")
    assert not {"PYTHONHOME", "PYTHONPATH"} & set(environment_python.clean_environment())


def command(**options):
    build = choose(Probe("Linux", "x86_64", nvidia=RTX_3060))
    line = environment_install.install_command(Path("P"), ("torch==1",), Path("C"), build, **options)
    return " ".join(line)


def test_commands():
    assert "--torch-backend cu126" in command(uv=Path("uv"))
    assert "--index-url https://download.pytorch.org/whl/cu126" in command()
    for offline in (command(uv=Path("uv"), offline=Path("W")), command(offline=Path("W"))):
        assert "--no-index --find-links W" in offline
        assert "http" not in offline and "backend" not in offline
    assert "--offline" in command(uv=Path("uv"), offline=Path("W"))


def test_missing_wheels(tmp_path):
    for name in (
        "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl",
        "opencv_python-4.11.0.86-cp37-abi3-manylinux_2_17_x86_64.whl",
        "smplx-0.1.28-py3-none-any.whl",
        "numpy-1.26.4-cp312-cp312-manylinux_2_17_x86_64.whl",
        "mediapipe-0.10.20-cp311-cp311-manylinux_2_28_x86_64.whl",
    ):
        (tmp_path / name).touch()
    wanted = (
        "torch==2.13.0",
        "numpy==1.26.4",
        "opencv-python==4.11.0.86",
        "mediapipe==0.10.21",
        "smplx==0.1.28",
    )
    missing = environment_install.missing_wheels(tmp_path, wanted, (3, 11, 7))
    assert missing == ["numpy 1.26.4", "mediapipe 0.10.21"]
    assert "torch 2.13.0" in environment_install.missing_wheels(tmp_path, wanted, (3, 12, 1))
    assert len(environment_install.missing_wheels(tmp_path / "none", wanted, (3, 11, 7))) == len(wanted)


@pytest.mark.parametrize(
    ("printed", "words", "way"),
    [
        ("ERROR: No matching distribution found for torch==2.13.0", "no wheel of torch==2.13.0", "Add it"),
        ("  x Because jax was not found in the provided package locations and ...", "no wheel of jax", "Add it"),
        ("error: No space left on device (os error 28)", "disk is full", "Free some"),
        ("PermissionError: [WinError 5] Access is denied", "access was denied", "Close what uses"),
        ("  cause: Zugriff verweigert (os error 5)", "access was denied", "Close what uses"),
        ("ERROR: Could not install packages due to an OSError: [WinError 32] Der Prozess kann nicht auf die Datei zugreifen", "access was denied", "Close"),
        ("  cause: Es steht nicht genug Speicherplatz auf dem Datentr\u00e4ger zur Verf\u00fcgung. (os error 112)", "disk is full", "Free some"),
        ("ERROR: [Errno 2] No such file or directory: 'C:\\x'\nHINT: This error might have occurred since this system does not have Windows Long Path support enabled.",
         "too long a name", "Choose uv"),
        ("  cause: Input/output error (os error 5)", "Input/output error", ""),
        ("/usr/bin/python3: No module named venv", "lacks venv", "Choose uv"),
        ("something quite new", "something quite new", ""),
    ],
)
def test_failures_become_sentences_that_say_what_to_do(printed, words, way):
    fault = environment_install.explain("torch", printed.split("\n"), 1, Path("wheels"), Path("setup.log"))
    assert fault.code == "setup_incomplete" and words in fault.text and way in fault.hint and "setup.log" in fault.hint
    assert fault.hint.startswith(way), "before what is to be pressed then"


PIP_BROKEN = "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(...)': /whl/cpu/torch/\n"
PIP_NONE = "ERROR: No matching distribution found for torch==2.13.0"


@pytest.mark.parametrize(
    ("what", "printed", "host", "way"),
    [
        ("torch", "error: Request failed after 3 retries in 11.5s\n  cause: Failed to fetch: https://download.pytorch.org/whl/cpu/torch/\n"
         "  cause: dns error", "download.pytorch.org", "Build of torch to PyPI's own"),
        ("torch", "error: Failed to fetch: `https://x/`\n dns error", "x", "firewall"),
        ("torch", f"Looking in indexes: https://download.pytorch.org/whl/cpu\n{PIP_BROKEN}{PIP_NONE}", "download.pytorch.org", "PyPI's own"),
        ("torch", f"HTTPSConnectionPool(host='pypi.org', port=443): Max retries exceeded\n{PIP_NONE}", "pypi.org", "firewall"),
        ("packages", f"Looking in indexes: https://me:secret@wheels.example/simple\n{PIP_BROKEN}{PIP_NONE}", "wheels.example", "firewall"),
        ("python", "error: Failed to download https://github.com/a/b\n  cause: dns error", "github.com", "Base Python"),
        ("packages", f"{PIP_BROKEN}{PIP_NONE}", "The network", "Check the network"),
    ],
)  # fmt: skip
def test_a_host_that_is_not_reached_is_named_with_what_does_without_it(what, printed, host, way):
    fault = environment_install.explain(what, printed.split("\n"), 1, None, Path("setup.log"))
    assert fault.text == f"{host} could not be reached, or gave no answer."
    assert way in fault.hint and "an Offline folder of wheels" in fault.hint and "setup.log" in fault.hint
    assert ("PyPI's own" in fault.hint) == (host == "download.pytorch.org")


def wheel(name="uv", data=b"#!/bin/sh\necho uv\n"):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(f"uv-{requirements.UV_VERSION}.data/scripts/{environment_uv.program_name()}", data)
    return out.getvalue()


@pytest.fixture
def pinned(monkeypatch):
    """uv's wheel replaced by a small one of ours, pinned by its own hash."""
    data = wheel()
    row = ("uv-test.whl", hashlib.sha256(data).hexdigest())
    monkeypatch.setattr(environment_uv, "UV_WHEELS", {("Linux", "x86_64"): row})
    return data


def test_uv_from_the_offline_folder(tmp_path, pinned):
    offline = tmp_path / "wheels"
    offline.mkdir()
    with pytest.raises(LgdError, match="no uv-test.whl"):
        environment_uv.obtain(tmp_path / "env", "Linux", "x86_64", offline)
    (offline / "uv-test.whl").write_bytes(pinned)
    program = environment_uv.obtain(tmp_path / "env", "Linux", "AMD64", offline)
    assert program.read_bytes().startswith(b"#!/bin/sh")
    assert os.access(program, os.X_OK)


def test_uv_with_another_hash_is_refused(tmp_path, pinned):
    (tmp_path / "uv-test.whl").write_bytes(wheel(data=b"evil"))
    with pytest.raises(LgdError, match="hash differs"):
        environment_uv.obtain(tmp_path / "env", "Linux", "x86_64", tmp_path)
    assert not list((tmp_path / "env").rglob("uv"))


@pytest.fixture
def index(pinned):
    """A package index on this machine that lists uv's wheel, as JSON and as HTML."""

    class Handler(BaseHTTPRequestHandler):
        html = False

        def do_GET(self):  # noqa: N802
            if self.path.endswith("/simple/uv/"):
                entry = '{"files": [{"filename": "uv-test.whl", "url": "../../files/uv-test.whl"}]}'
                page = '<a href="../../files/uv-test.whl#sha256=0">uv-test.whl</a>'
                body = (page if Handler.html else entry).encode()
            elif self.path == "/files/uv-test.whl":
                body = pinned
            else:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/simple", Handler
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("html", [False, True])
def test_uv_is_fetched_and_checked(tmp_path, index, html):
    address, handler = index
    handler.html = html
    parts = []
    program = environment_uv.obtain(
        tmp_path, "Linux", "x86_64", index=address, on_part=lambda done, total: parts.append((done, total))
    )
    assert program.is_file() and parts[-1][0] == parts[-1][1]


def test_a_scanner_that_holds_the_fetched_file_fails_no_set_up(tmp_path, index, monkeypatch):
    """On Windows what is open cannot be removed."""
    real = os.unlink

    def unlink(path, **options):
        if str(path).endswith(".whl"):
            raise PermissionError(13, "The process cannot access the file because it is being used by another process")
        real(path, **options)

    monkeypatch.setattr(os, "unlink", unlink)
    assert environment_uv.obtain(tmp_path, "Linux", "x86_64", index=index[0]).is_file()


def test_fetching_can_be_cancelled(tmp_path, index):
    with pytest.raises(LgdError) as caught:
        environment_uv.obtain(tmp_path, "Linux", "x86_64", index=index[0], should_stop=lambda: True)
    assert caught.value.code == "cancelled"
    assert not list(tmp_path.rglob("uv*"))


def test_no_network_is_a_sentence(tmp_path, pinned):
    with pytest.raises(LgdError, match="could not be fetched"):
        environment_uv.obtain(tmp_path, "Linux", "x86_64", index="http://127.0.0.1:9/simple")


def test_certificates_are_certifis_where_the_system_shows_python_none(monkeypatch, tmp_path):
    """As on a Mac, to Blender's."""
    certifi = pytest.importorskip("pip._vendor.certifi")
    (tmp_path / "none.pem").touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    monkeypatch.setitem(sys.modules, "certifi", certifi)
    assert len(environment_uv.context().get_ca_certs()) > 50
    monkeypatch.setitem(sys.modules, "certifi", None)  # not to be had
    assert environment_uv.context()


def test_no_uv_for_a_strange_machine():
    with pytest.raises(LgdError, match="not pinned"):
        environment_uv.wheel_of("Plan9", "vax")


def test_check_says_what_is_wrong(tmp_path):
    [finding] = environment.check("")
    assert not finding.ok and "run the set-up" in finding.sentence
    [finding] = environment.check(tmp_path / "python")
    assert "is not there" in finding.sentence
    (tmp_path / "python").write_text("no program")
    [finding] = environment.check(tmp_path / "python")
    assert "does not start" in finding.sentence


def test_a_library_of_windows_that_is_missing_is_named(monkeypatch):
    fault = "OSError: [WinError 126] Das angegebene Modul wurde nicht gefunden. Error loading c10.dll or one of its dependencies."
    monkeypatch.setattr(environment_check, "_load", lambda python, modules: ({"torch": {"fault": fault}}, ""))
    found = environment.check(sys.executable, None, {"torch": ("torch", True, "the fit")})
    assert "Visual C++ Redistributable" in found[-1].sentence and not found[-1].ok


def test_check_names_each_missing_thing(tmp_path):
    modules = {
        "json": ("json", True, "everything"),
        "no_such_module": ("no-such-package", True, "everything"),
        "other": ("other-package", False, "a game"),
    }
    found = {finding.name: finding for finding in environment.check(sys.executable, tmp_path, modules)}
    assert found["json"].ok
    assert found["no-such-package"].sentence == "no-such-package is missing: it is needed for everything."
    assert "default body is missing" in found["body"].sentence
    assert "weights are missing" in found["weights"].sentence
    assert not environment.complete(list(found.values()))
    assert environment.complete([found["json"], found["other-package"]])
    assert not environment.complete([])
