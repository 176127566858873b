"""edgeq on an ARM board that is emulated: `python -m tests.board`, see __main__.py."""
