"""Who may record a CUDA graph."""

from __future__ import annotations

import threading

# One thread of the process at a time: what another one launches or waits for meanwhile would be recorded, or end it.
ALONE = threading.RLock()
