"""``tnrd-denoise in.png out.png``: a noisy picture in, a clean one out; ``tnrd-denoise in/ out/``: many of them.

The exit status is told by ``tnrd-denoise --help`` and named in :mod:`tnrd.cli.reporting`.

Whatever stands in the way of a result is one sentence on stderr. Heavy imports are inside the functions: ``--help`` and
``--version`` answer at once, and a wrong path does not wait for torch.
"""

from __future__ import annotations

from tnrd.cli.command import main

__all__ = ["main"]
