"""Every call that can fail, failed once: `python -m tests.faults`, and a part of it as a test."""
