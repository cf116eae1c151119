"""``python -m app``: the web page on this machine."""

from __future__ import annotations

import argparse
import signal
import sys
from importlib.util import find_spec


def main() -> int:
    """Parse the arguments and serve.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(prog="tnrd-app", description="Serve the web page of tnrd on this machine.")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine alone)"
    )
    parser.add_argument("--port", type=int, default=7860, help="port (default: 7860)")
    parser.add_argument("--open", action="store_true", help="open it in the browser")
    arguments = parser.parse_args()
    missing = [name for name in ("gradio", "matplotlib") if find_spec(name) is None]
    if missing:
        print(
            f'tnrd-app: {" and ".join(missing)} missing; install the page with: pip install "tnrd[app]"',
            file=sys.stderr,
        )
        return 2
    from .server import serve

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that the temporary files go, as they do on Ctrl-C
    try:
        serve(arguments.host, arguments.port, open_browser=arguments.open)
    except OSError as error:
        print(f"tnrd-app: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("tnrd-app: ended.", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
