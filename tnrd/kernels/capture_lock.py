"""Who may record a CUDA graph."""

from __future__ import annotations

import threading

# One thread of the process at a time. Other threads may launch meanwhile (graphs are recorded with
# capture_error_mode="thread_local"), but nobody may synchronise a whole device, as the begin of another recording does.
CAPTURE_LOCK = threading.RLock()
