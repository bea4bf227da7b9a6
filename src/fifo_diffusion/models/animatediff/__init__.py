"""AnimateDiff."""
