"""Kandinsky 5."""
