"""``python -m tnrd`` is ``tnrd-denoise``."""

from __future__ import annotations

import sys

from tnrd.cli import main

if __name__ == "__main__":
    sys.exit(main())
