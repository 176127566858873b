"""The `edgeq` command, also as `python -m edgeq`."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line in sys.argv and return its exit code."""
    if sys.argv[1:] == ["--version"]:  # answered before anything else is imported
        from edgeq import __version__

        print(f"edgeq {__version__}")
        return 0
    from edgeq.cli import prepare_process, run

    prepare_process()
    return run()


if __name__ == "__main__":
    sys.exit(main())
