"""``tnrd-denoise in.png out.png``: a noisy picture in, a clean one out.

| exit status | meaning |
|---|---|
| 0 | the output is complete |
| 1 | unexpected: out of memory, or a fault of the program |
| 2 | the options are wrong |
| 3 | the input cannot be read, or its noise level not be estimated |
| 4 | the output cannot be written |
| 5 | the weights, the device or the engine cannot be used |
| 130 | interrupted; an output is complete or absent |

Whatever stands in the way of a result is one sentence on stderr. Heavy imports are inside the functions: ``--help`` and
``--version`` answer at once, and a wrong path does not wait for torch.
"""

from __future__ import annotations

from tnrd.cli.command import main

__all__ = ["main"]
