"""``tnrd-app``: find the web page and serve it.

The page is no part of this package, which knows nothing of it: it lies in ``app/`` of a checkout, and beside this
package, as ``tnrd._page``, where a wheel was installed. This is only its command.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec


def main() -> int:
    """Serve the page with the arguments of the process.

    Returns:
        The exit status.
    """
    place = "tnrd._page" if find_spec("tnrd._page") else "app"
    status: int = import_module(f"{place}.__main__").main()
    return status
