"""edgeq on x86-64 processors that this machine is not, emulated: `python -m tests.pc`, see __main__.py."""
