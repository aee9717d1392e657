# SPDX-License-Identifier: GPL-3.0-or-later
"""Full Blenders with their windows, in Debian chroots under a virtual display (Linux, root).

    python3 tests/gui/chroot.py trixie sid -- smoke.py      # Blender 4.3 and 5.2; scripts of tests/gui/scenarios

A chroot lies outside the checkout and is kept between runs (LGD_GUI_ROOT, else the user's cache folder). A scenario
is a Python file that runs inside Blender's window, ends it with `os._exit(0)` when it has passed and with another
code when not, and takes pictures with `lgd_gui.screenshot(name)`. A clip lies beside it as footage.mp4. LGD_PYTHON names the worker's interpreter there
(the checkout's .venv, shown to the chroot), where that is not the system's own; LGD_GUI_JOB the scenario's folder.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SUITES = {"trixie": "4.3", "sid": "5.2"}
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
PACKAGES = (
    "blender xvfb xauth xdotool imagemagick openbox libgl1-mesa-dri libegl1 ffmpeg "
    "python3-numpy python3-requests python3-zstandard"
).split()
EXTRA = {"sid": ["python3-cattr"]}  # without it the extensions of Debian's 5.2 do not register
COMPLETE = "complete-2"  # written last; raise the number when PACKAGES change
LIMIT = 300  # s for one scenario

MODULE = '''
import os, subprocess
OUT = os.environ["LGD_GUI_OUT"]
def screenshot(name):
    """A picture of the whole virtual screen (Blender's own operator gives a black one on a software renderer)."""
    subprocess.run(["import", "-window", "root", os.path.join(OUT, name + ".png")], check=True)
'''

RUN = """set -u
export LIBGL_ALWAYS_SOFTWARE=1 LC_ALL=C.UTF-8 HOME=/root XDG_RUNTIME_DIR=/tmp/run
export BLENDER_USER_RESOURCES=/job/blender LGD_GUI_OUT=/job/out LGD_GUI_JOB=/job OMP_NUM_THREADS=1
mkdir -p $XDG_RUNTIME_DIR $BLENDER_USER_RESOURCES $LGD_GUI_OUT
cd /job
if [ -f /job/addon.zip ]; then
  blender --command extension install-file -r user_default -e /job/addon.zip || exit 3
fi
# No exec: as the first process of its namespace, timeout of coreutils 9.10 ends at once with 125.
timeout -k 10 "$LIMIT" xvfb-run -a -s "-screen 0 1280x800x24" \\
  blender --window-geometry 0 0 1280 800 --enable-event-simulate --python-exit-code 5 --python "/job/$SCENARIO"
code=$?
# However Blender ended, its worker must end too.
for second in $(seq 20); do
  grep -qsz "run_module('bridg[e]'" /proc/[0-9]*/cmdline || exit $code
  sleep 1
done
echo "A worker outlived Blender by 20 s."
exit 6
"""


def root_folder() -> Path:
    """Where the chroots lie."""
    named = os.environ.get("LGD_GUI_ROOT")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(named) if named else cache / "lgd_blender_addon" / "gui"


def obstacle() -> str:
    """Why no window can be had here, in a sentence; empty where it can."""
    if not sys.platform.startswith("linux"):
        return "The window tests need Linux."
    if os.geteuid() != 0:
        return "The window tests need root, for debootstrap and chroot."
    if not Path(KEYRING).is_file():
        return "The window tests need Debian (its archive keyring)."
    return ""


def mirror() -> str:
    """The Debian mirror that apt is configured with."""
    found = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    sites = [line.split()[0] for line in found if line and "security" not in line]
    if not sites:
        raise RuntimeError("apt has no source; run apt-get update")
    return sites[0]


def worker_python() -> Path | None:
    """The checkout's .venv interpreter, if it and its base can be shown to a chroot (not if they are the system's)."""
    python = ROOT / ".venv" / "bin" / "python"
    if not python.exists():
        return None
    base = Path(os.path.realpath(python)).parents[1]
    return None if base == Path("/usr") else python


def shown_folders() -> list[Path]:
    """What a chroot sees of this machine at its own place: the worker's Python and its packages, to run real jobs."""
    python = worker_python()
    return [ROOT / ".venv", Path(os.path.realpath(python)).parents[1]] if python else []


def inside(root: Path, command: str, log, *, pids: bool = True, **variables: str) -> int:
    """Run a shell command in the chroot, with mounts that end with it; returns its exit code."""
    shown = "".join(
        f"mkdir -p {root}{path} && mount --bind {path} {root}{path} && " for path in shown_folders()
    )
    # Without a mount namespace a later removal of the folder would walk into the real /dev.
    script = (
        f"mount -t proc proc {root}/proc && mount --rbind /dev {root}/dev && {shown}"
        f'exec chroot {root} bash -c "$LGD_COMMAND"'
    )
    flags = ["-m", "-p", "-f", "--kill-child"] if pids else ["-m", "-f", "--kill-child"]
    kept = {
        key: os.environ[key] for key in ("PATH", "TERM", "http_proxy", "https_proxy") if key in os.environ
    }
    return subprocess.run(
        ["unshare", *flags, "bash", "-c", script],
        env={**kept, "LGD_COMMAND": command, "DEBIAN_FRONTEND": "noninteractive", **variables},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
    ).returncode


def make(suite: str, say=print) -> Path:
    """The chroot of a Debian suite, made where it is not there; raises RuntimeError with the log's path."""
    root = root_folder() / suite
    mark = root / f".{COMPLETE}"
    if mark.is_file():
        return root
    root_folder().mkdir(parents=True, exist_ok=True)
    log_path = root_folder() / f"{suite}.log"
    start = time.time()
    with open(log_path, "w") as log:

        def must(code: int, what: str) -> None:
            if code:
                raise RuntimeError(f"{what} failed for {suite}; see {log_path}")

        if not shutil.which("debootstrap"):
            must(subprocess.call(["apt-get", "update"], stdout=log, stderr=log), "apt-get update")
            must(
                subprocess.call(["apt-get", "install", "-y", "debootstrap"], stdout=log, stderr=log),
                "apt-get install debootstrap",
            )
        if not (root / "usr" / "bin" / "apt-get").exists() or not (root / ".bootstrapped").exists():
            shutil.rmtree(root, ignore_errors=True)
            say(f"{suite}: debootstrap into {root}")
            command = [
                "debootstrap",
                "--variant=minbase",
                "--include=ca-certificates",
                f"--keyring={KEYRING}",
            ]
            must(
                subprocess.call([*command, suite, str(root), mirror()], stdout=log, stderr=log), "debootstrap"
            )
            (root / ".bootstrapped").touch()
        for name in ("resolv.conf", "hosts"):
            shutil.copyfile(os.path.realpath(f"/etc/{name}"), root / "etc" / name)
        policy = root / "usr/sbin/policy-rc.d"
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
        (root / "etc/apt/apt.conf.d/99local").write_text(
            'Acquire::Check-Valid-Until "false";\nAcquire::Check-Date "false";\n'
            'APT::Install-Recommends "false";\n'
        )
        say(f"{suite}: installing Blender")
        names = " ".join(PACKAGES + EXTRA.get(suite, []))
        must(inside(root, f"apt-get update && apt-get install -y {names} && apt-get clean", log), "apt-get")
        mark.touch()
    say(f"{suite}: ready after {time.time() - start:.0f} s")
    return root


def footage() -> Path:
    """The clip the scenarios solve: the demo's where it was fetched before, else one of the project's own body."""
    fetched = sorted((ROOT / ".cache" / "footage").glob("*.mp4"))
    made = root_folder() / "stand_in.mp4"
    if not fetched and not made.is_file():
        subprocess.run(
            [ROOT / ".venv" / "bin" / "python", ROOT / "demo" / "stand_in.py", made],
            check=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    return fetched[0] if fetched else made


def run(suite: str, scenario: Path, out: Path, addon: Path | None = None, files=()) -> tuple[int, Path]:
    """Run one scenario in one Blender's window; its pictures and log land in `out`. Returns exit code and log."""
    root = make(suite)
    out.mkdir(parents=True, exist_ok=True)
    job = Path(tempfile.mkdtemp(prefix="job-", dir=root))
    log_path = out / f"{scenario.stem}-{suite}.log"
    try:
        modules = job / "blender" / "scripts" / "modules"  # on Blender's path, which takes no PYTHONPATH
        modules.mkdir(parents=True)
        (modules / "lgd_gui.py").write_text(MODULE)
        (job / "out").mkdir()
        for file in (HERE / "scenarios").glob("*.py"):
            shutil.copy(file, job)
            if not file.name.startswith("test_"):
                shutil.copy(file, modules)
        for name in ("movies.py", "strip_cases.py"):
            shutil.copy(ROOT / "tests" / "blender" / name, modules)
        shutil.copy(scenario, job / scenario.name)
        for file in files:
            (shutil.copytree if Path(file).is_dir() else shutil.copy)(file, job / Path(file).name)
        shutil.copy(footage(), job / "footage.mp4")
        if addon:
            shutil.copy(addon, job / "addon.zip")
        # The job's folder stands at / of the chroot; a stable name for the scenarios.
        command = f"rm -rf /job; ln -s /{job.name} /job; {RUN}"
        with open(log_path, "w") as log:
            python = {"LGD_PYTHON": str(worker_python())} if worker_python() else {}
            code = inside(
                root, command, log, **python, SCENARIO=scenario.name, LIMIT=str(LIMIT), LGD_SUITE=suite
            )
        for picture in sorted((job / "out").iterdir()):
            shutil.copy(picture, out / f"{picture.stem}-{SUITES.get(suite, suite)}{picture.suffix}")
    finally:
        shutil.rmtree(job, ignore_errors=True)
    return code, log_path


def main() -> int:
    """Run scenarios in the chroots of suites; the exit code is 1 where one fails."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("suites", nargs="*", default=list(SUITES), help="trixie (4.3), sid (5.2)")
    parser.add_argument("--scenario", action="append", help="a file of tests/gui/scenarios (default: all)")
    parser.add_argument("--addon", type=Path, help="a zip to install first")
    parser.add_argument(
        "--file", action="append", default=[], help="a file or folder to lay beside the scenario"
    )
    parser.add_argument("--out", type=Path, default=Path("demo_output/gui"))
    options = parser.parse_args()
    if obstacle():
        print(obstacle())
        return 2
    named = options.scenario or sorted(f.name for f in (HERE / "scenarios").glob("test_*.py"))
    passed, failed = 0, []
    for suite in options.suites:
        for name in named:
            start = time.time()
            code, log = run(suite, HERE / "scenarios" / name, options.out, options.addon, options.file)
            passed += code == 0
            note = "passed" if code == 0 else f"FAILED (exit code {code}), see {log}"
            print(f"gui {SUITES.get(suite, suite)} {name}: {note} in {time.time() - start:.1f} s", flush=True)
            if code:
                failed.append(f"{suite}:{name}")
                print("".join(f"    {line}\n" for line in log.read_text(errors="replace").splitlines()[-25:]))
    print(f"gui: {passed} passed, {len(failed)} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
