"""The lives of models: left open, dropped, forked, broken off half-way, and misused from every side."""
