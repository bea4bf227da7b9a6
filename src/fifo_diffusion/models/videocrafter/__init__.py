"""VideoCrafter1 and VideoCrafter2."""
