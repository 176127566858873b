"""A long run of mixed requests against one server."""
