"""`python -m laser_sweep.report`: writes a store down as one page that opens anywhere, without a network."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from laser_sweep.errors import RequestError
from laser_sweep.store.atomic import replacing


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m laser_sweep.report", description=__doc__)
    parser.add_argument("store", nargs="?", default="outputs/store", help="default: %(default)s")
    parser.add_argument("--to", metavar="FILE", help="default: report.html beside the store")
    parser.add_argument(
        "--markdown", action="store_true", help="print a summary for a pull request instead, tables without figures"
    )
    parser.add_argument("--wandb", action="store_true", help="make a workspace and a report at W&B instead")
    arguments = parser.parse_args()
    try:
        if arguments.wandb:
            from laser_sweep.report.wandb_pages import publish

            print(publish(arguments.store))
            return
        text = _written(arguments.store, markdown=arguments.markdown)
        if arguments.markdown and arguments.to is None:
            sys.stdout.write(text)
            return
        target = Path(arguments.to) if arguments.to is not None else Path(arguments.store).parent / "report.html"
        write(text, target)
    except RequestError as error:
        print(f"laser_sweep.report: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    print(f"report: {target} ({target.stat().st_size / 1e6:.1f} MB)")


def _written(store: str, *, markdown: bool) -> str:
    # Here, since plotly takes longer to import than an error takes to print.
    from laser_sweep.report.content import gather

    if markdown:
        from laser_sweep.report.markdown import markdown as render

        return render(gather(store, figures=False))
    from laser_sweep.report.page import page

    return page(gather(store))


def write(text: str, target: Path) -> None:
    """Puts a text in the place of a file, or leaves the file as it is. Raises RequestError where it cannot."""
    if target.is_dir():
        raise RequestError(f"--to={target} is a directory; give the name of a file in it")
    try:
        with replacing(target) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RequestError(f"--to={target} cannot be written ({error.strerror}); give another file") from None


if __name__ == "__main__":
    main()
