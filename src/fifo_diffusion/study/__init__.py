"""`evaluate`: rows of methods and settings, their videos and costs, the report."""
