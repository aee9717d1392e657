# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m bridge`: the command line, and the worker where standard input is not a terminal."""

import os
import sys

# Read when torch is loaded. Threads that wait by spinning make small tensors many times slower where another program is at work.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

try:
    from bridge.cli import main

    sys.exit(main())
except KeyboardInterrupt:  # before or after the part that has a word for it
    sys.exit(130)
