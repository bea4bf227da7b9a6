"""A folder of runs over HTTP: OpenAI's dialect for videos, routes of our own, and a page. Nothing here imports PyTorch:
what needs a model is done by other processes."""
