"""Hostile inputs for every parser of edgeq: `python -m tests.fuzz`, and a short run of it as a test."""
