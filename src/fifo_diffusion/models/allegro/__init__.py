"""Allegro."""
