"""Banded lookahead: one pass over the whole queue in which each frame sees a band of others."""
