"""The `edgeq` command, also as `python -m edgeq`."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line in sys.argv and return its exit code.

    Nothing leaves it as a traceback, neither a lack of memory nor Ctrl-C while modules are imported.
    """
    from edgeq.ends import ended, open_streams

    try:
        open_streams()
        if sys.argv[1:] == ["--version"]:  # answered before anything else is imported
            from edgeq import __version__

            print(f"edgeq {__version__}", flush=True)
            return 0
        from edgeq.cli import prepare_process, run_command

        prepare_process()
        return run_command()
    except SystemExit:
        raise
    except BaseException as error:
        return ended(error)


if __name__ == "__main__":
    sys.exit(main())
