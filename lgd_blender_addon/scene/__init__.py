# SPDX-License-Identifier: GPL-3.0-or-later
"""What a solved take becomes in Blender: rig, mesh, keys, camera. Data only: no operators, no interface."""
