# SPDX-License-Identifier: GPL-3.0-or-later
"""2D keypoints: layouts, tracks, footage, detection, files and repair."""
