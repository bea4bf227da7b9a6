"""How windows are executed: in batches that fit, over several processes."""
