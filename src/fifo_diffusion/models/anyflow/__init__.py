"""AnyFlow."""
