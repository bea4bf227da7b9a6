"""Latents to frames, as they come."""
