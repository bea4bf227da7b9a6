"""Runs as folders: what is asked for, what became of it, the video in parts and the states between them. Every face
only reads them and appends commands; one process makes a run, the one that has its lock. See docs/runs.md.

Nothing here imports PyTorch but `making.py` and `worker.py`.
"""
