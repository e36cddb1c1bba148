"""Looks up the pinned versions among the known vulnerabilities: python .ci/audit.py constraints.txt

Ends with 0 where none is known, and where no feed can be reached, which is said; with 1 where some are found.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

FEEDS = ("osv", "pypi")
KNOWN = "jinja2==2.4.1"  # vulnerable since 2014: a feed that does not know it is none


def ask(feed: str, requirements: Path) -> list[dict[str, Any]] | None:
    """What pip-audit says of each pinned version, None where it could not ask."""
    options = [
        "--no-deps",
        "--disable-pip",
        "--progress-spinner=off",
        "--format=json",
        f"--vulnerability-service={feed}",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pip_audit", f"--requirement={requirements}", *options], capture_output=True, text=True
    )
    try:
        return list(json.loads(done.stdout)["dependencies"])
    except (ValueError, KeyError):
        return None


def reachable(feed: str) -> bool:
    with tempfile.TemporaryDirectory() as directory:
        probe = Path(directory) / "known.txt"
        probe.write_text(f"{KNOWN}\n")
        return any(package.get("vulns") for package in ask(feed, probe) or [])


def main(requirements: Path) -> int:
    feed = next((feed for feed in FEEDS if reachable(feed)), None)
    audited = None if feed is None else ask(feed, requirements)
    if audited is None:
        print(f"not audited: no feed of vulnerabilities ({', '.join(FEEDS)}) can be reached from here")
        return 0
    skipped = [package["name"] for package in audited if "skip_reason" in package]
    found = [(package, vulnerability) for package in audited for vulnerability in package.get("vulns", [])]
    for package, vulnerability in found:
        fixed = ", ".join(vulnerability["fix_versions"]) or "no version"
        print(f"{package['name']} {package['version']}: {vulnerability['id']}, fixed in {fixed}")
    unknown = f", {len(skipped)} unknown to the feed: {', '.join(skipped)}" if skipped else ""
    print(f"{len(audited)} versions looked up ({feed}), {len(found)} known vulnerabilities{unknown}")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
