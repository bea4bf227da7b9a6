"""Behind the command line: what `cli.py` parses is checked, run and reported here. No tensors."""
