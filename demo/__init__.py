# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo: real footage through the installed zip, to demo.blend, a preview and a table. Not in the zip."""
