# SPDX-License-Identifier: GPL-3.0-or-later
"""Take the README's pictures anew: docs/running.png and docs/panel.png, from a real fit in a window (see chroot.py): of the footage that the demo
has fetched in this checkout, else of its stand-in, which is not for the README.

python3 tests/gui/pictures.py [trixie|sid]
"""

import shutil
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[2])]
import chroot  # noqa: E402

import build_addon  # noqa: E402


def main() -> int:
    """Build the zip, take the pictures, lay them into docs."""
    suite = sys.argv[1] if len(sys.argv) > 1 else "sid"
    if chroot.obstacle():
        print(chroot.obstacle())
        return 2
    out = Path(tempfile.mkdtemp(prefix="lgd-pictures-"))
    code, log = chroot.run(suite, chroot.HERE / "scenarios" / "pictures.py", out, build_addon.build(out))
    if code:
        print(log.read_text(errors="replace"))
        return 1
    docs = chroot.ROOT / "docs"
    docs.mkdir(exist_ok=True)
    for name in ("running", "panel"):
        shutil.copy(out / f"{name}-{chroot.SUITES[suite]}.png", docs / f"{name}.png")
        print(docs / f"{name}.png", (docs / f"{name}.png").stat().st_size // 1000, "kB")
    shutil.rmtree(out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
