"""A forward pass as a program: its recorder, the memory it computes in, the weights and tables it reads,
the threads that run it.
"""
