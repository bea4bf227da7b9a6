"""One running video: settings, prompts, start, stream, state."""
