# SPDX-License-Identifier: GPL-3.0-or-later
"""For all layers: the checkout on the path, where the training data is, and skips that say what is missing."""

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))


def data_folder() -> Path:
    """The folder of mocap, footage and multiview data: LGD_DATA, by default ../shared/data beside the checkout."""
    return Path(os.environ.get("LGD_DATA") or ROOT.parent / "shared" / "data")


@pytest.fixture(scope="session")
def lgd_data() -> Path:
    """The data folder; tests that ask for it do not run where it is not there."""
    folder = data_folder()
    if not folder.is_dir():
        pytest.skip(f"the data folder {folder} is not there (LGD_DATA)")
    return folder


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT
