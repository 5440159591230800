"""``python -m captum``: the same as the command ``captum``."""

from __future__ import annotations

import sys

from captum.cli import main

sys.exit(main())
