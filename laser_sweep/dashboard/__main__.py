"""`python -m laser_sweep.dashboard [STORE] [--port N]`: looks at a store in a browser while sweeps write to it."""

from __future__ import annotations

import argparse
import logging
import sys

from laser_sweep.errors import RequestError


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m laser_sweep.dashboard", description=__doc__)
    parser.add_argument("store", nargs="?", default="outputs/store", help="default: %(default)s")
    parser.add_argument("--port", type=int, default=8050, help="default: %(default)s; 0 takes one that is free")
    arguments = parser.parse_args()
    logging.basicConfig(format="laser_sweep.dashboard: %(message)s", level=logging.WARNING)
    try:
        serve(arguments.store, arguments.port)
    except RequestError as error:
        print(f"laser_sweep.dashboard: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print()


def serve(store: str, port: int) -> None:
    """Serves a store to this machine until it is interrupted. Raises RequestError for what cannot be served."""
    from laser_sweep.dashboard.server import bind, check_store

    check_store(store)
    server = bind(store, port)
    print(f"laser_sweep.dashboard: {store} at http://127.0.0.1:{server.port}/ (Ctrl-C ends it)", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
