# SPDX-License-Identifier: GPL-3.0-or-later
"""`bridge evaluate`: all rows, columns and stress tests of the method in one run, with the same 2D for all."""

from .command import main

__all__ = ["main"]
