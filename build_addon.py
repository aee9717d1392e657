#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the add-on's zip, and the developers' other commands. Needs Python 3.11 alone; sets up the rest.

    python3 build_addon.py                    write dist/lgd_blender_addon-VERSION.zip
    python3 build_addon.py setup              make .venv: torch, OpenCV, the detector, smplx, the test tools
    python3 build_addon.py test [LAYER ...]   set up and run the tests: ruff pure worker torch blender (all), or gui
    python3 build_addon.py demo [--video F [--frames A:B]]
                                              set up and take footage to a keyframed body in Blender

This is the only file that knows what lies where in the zip: the add-on at its root, `bridge/` inside it.
"""

import argparse
import sys
import zipfile
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036 (it may well be started with an older one)
    sys.exit("Python 3.11 is needed: python3.11 build_addon.py ...")
import tomllib

ROOT = Path(__file__).resolve().parent
ADDON = ROOT / "lgd_blender_addon"
BRIDGE = ROOT / "bridge"
# What the worker does not run in a user's hands.
LEFT_OUT = ("bridge/train/", "bridge/body/sculpt/", "bridge/body/build_default", "__pycache__/", "LOG")
SUFFIXES = (".py", ".toml", ".npz", ".json", ".txt", ".md")
WEIGHTS = "bridge/lgd/weights/"
WEIGHT_SUFFIXES = (".pt", ".npz", ".json")
NAMES = ("NOTICE", "LICENSE")  # files without a suffix
REQUIRED = (
    "__init__.py",
    "blender_manifest.toml",
    "_bridge.py",
    "session.py",
    "worker/process.py",
    "worker/environment.py",
    "bridge/__init__.py",
    "bridge/__main__.py",
    "bridge/protocol.py",
    "bridge/body/default_body.npz",
    "bridge/body/NOTICE",
    "LICENSE",
)
MOST_BYTES = 60_000_000
TIME = (2026, 1, 1, 0, 0, 0)  # of every file in the zip, so that equal content makes an equal zip


def manifest() -> dict:
    """The extension's manifest."""
    with open(ADDON / "blender_manifest.toml", "rb") as file:
        return tomllib.load(file)


def contents() -> dict[str, Path]:
    """Name in the zip: the file it comes from."""
    found = {"LICENSE": ROOT / "LICENSE"}
    for base, prefix in ((ADDON, ""), (BRIDGE, "bridge/")):
        for path in sorted(base.rglob("*")):
            name = prefix + path.relative_to(base).as_posix()
            if path.is_file() and not path.is_symlink() and not any(part in name for part in LEFT_OUT):
                found[name] = path
    return dict(sorted(found.items()))


def faults(names: list[str], weights: bool = True) -> list[str]:
    """What is wrong with a zip's list of names, in sentences; `weights`: whether it must hold some."""
    wrong = [f"{name} is missing." for name in REQUIRED if name not in names]
    if weights and not any(name.startswith(WEIGHTS) and name.endswith((".pt", ".npz")) for name in names):
        wrong.append(f"The weights are missing ({WEIGHTS}).")
    for name in names:
        path = Path(name)
        suffixes = WEIGHT_SUFFIXES if name.startswith(WEIGHTS) else SUFFIXES
        if path.suffix not in suffixes and path.name not in NAMES:
            wrong.append(f"{name} does not belong in the zip.")
        if any(part in name for part in LEFT_OUT) or path.parts[0] in ("torch", "tests", "tools", "demo"):
            wrong.append(f"{name} must stay out of the zip.")
    return wrong


def build(folder: Path = ROOT / "dist", say=print, weights: bool = True) -> Path:
    """Write the zip and return its path; SystemExit with what is wrong where its list of files is.

    Without `weights` it may lack them: such a zip installs and registers, and cannot fit.
    """
    files = contents()
    wrong = faults(list(files), weights)
    if wrong:
        raise SystemExit("The zip was not written:\n" + "\n".join(f"  {sentence}" for sentence in wrong))
    about = manifest()
    target = folder / f"{about['id']}-{about['version']}.zip"
    folder.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, path in files.items():
            entry = zipfile.ZipInfo(name, TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, path.read_bytes(), compresslevel=9)
    part.replace(target)
    size = target.stat().st_size
    if size > MOST_BYTES:
        raise SystemExit(f"{target} has {size / 1e6:.1f} MB, more than {MOST_BYTES / 1e6:.0f}.")
    shown = target.relative_to(ROOT) if target.is_relative_to(ROOT) else target
    say(f"{shown}: {len(files)} files, {size / 1e6:.1f} MB")
    return target


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage=argparse.SUPPRESS
    )
    commands = parser.add_subparsers(dest="command", prog="build_addon.py")
    commands.add_parser("setup")
    tests = commands.add_parser("test")
    tests.add_argument("layers", nargs="*")
    tests.add_argument("-k", help="only tests whose name matches, as pytest's -k")
    shown = commands.add_parser("demo")
    shown.add_argument(
        "--video", type=Path, help="footage of yours; default: a clip that a PyPI package ships"
    )
    shown.add_argument("--frames", help="A:B, half-open, 0-based: a part of the footage")
    shown.add_argument("--mode", choices=("video", "paper"))
    shown.add_argument("--blender", default="4.5", help="the Blender module: 4.2, 4.5, 5.0 or 5.2")
    shown.add_argument("--out", type=Path, default=ROOT / "demo_output")
    options = parser.parse_args(arguments)
    sys.path.insert(0, str(ROOT))
    from tools import environments

    try:
        if options.command is None:
            build()
        elif options.command == "setup":
            print(f"ready: {environments.worker()}")
        elif options.command == "test":
            from tools import testing

            return testing.run(options.layers, ["-k", options.k] if options.k else [])
        else:
            from demo import run

            return run.demo(options.video, options.out, options.blender, options.frames, options.mode)
    except environments.SetupError as fault:
        print(fault, file=sys.stderr)
        return 4
    return 0


if __name__ == "__main__":
    sys.exit(main())
