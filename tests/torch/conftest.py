# SPDX-License-Identifier: GPL-3.0-or-later
"""A room to film in."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def room():
    from filmed_room import furnished  # takes OpenCV

    return furnished()
