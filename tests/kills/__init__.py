"""A server that is killed again and again, and what it finds when it starts anew."""
