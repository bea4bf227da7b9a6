"""SANA-Video."""
