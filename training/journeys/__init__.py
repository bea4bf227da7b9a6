"""Journeys: a rendered world of side-scrolling travels, and the training of a text-to-video model on it."""
