"""What a visitor may ask for."""

from __future__ import annotations

MAX_FILE_BYTES = 64 * 2**20
MAX_PIXELS = 16_000_000
MAX_BATCH_FILES = 50
MAX_BATCH_PIXELS = 100_000_000
# Longest estimated time of one method; longer work is for the command line.
MAX_SECONDS = 900.0
# Views that hold every state of the diffusion, or repeat it without a filter, take at most this side of a picture.
MAX_VIEW_SIDE = 512
MAX_JUDGED_SIDE = 1024  # of the part of a residual that is measured
MAX_WAITING = 200  # calls in the queue; the next one is told to come back
FILE_SECONDS = 3600  # age at which uploads and what was shown are deleted
SESSION_SECONDS = 7200.0  # a visitor's picture is forgotten so long after it was last opened or denoised
