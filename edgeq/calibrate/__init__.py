"""What quantization learns from data: the texts that a model is run on, and what is gathered there.

Nothing here knows of commands. `text/` holds the text that is used where a caller brings none; `text/NOTICE`
says where each of its files is from and under which licence it stands.
"""
