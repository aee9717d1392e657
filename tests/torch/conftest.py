# SPDX-License-Identifier: GPL-3.0-or-later
"""A room to film in, and motion capture of somebody's own."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def room():
    from filmed_room import furnished  # takes OpenCV

    return furnished()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Twenty short AMASS files, and no shared motion capture."""
    import numpy as np

    monkeypatch.setenv("LGD_DATA", str(tmp_path / "none"))
    own = tmp_path / "amass" / "Somebody"
    own.mkdir(parents=True)
    for i in range(20):
        t = np.arange(80)[:, None] / 30
        poses = 0.3 * np.sin(t * (1 + i / 10) + np.arange(72) + i)
        np.savez(own / f"{i:02}.npz", poses=poses, trans=np.zeros((80, 3)), mocap_framerate=30.0)
    return own.parent
