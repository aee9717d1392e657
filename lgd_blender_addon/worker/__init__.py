# SPDX-License-Identifier: GPL-3.0-or-later
"""The worker process as Blender sees it (no bpy here): process.py runs it, client.py speaks to it, job.py tells how far it is."""
