"""HunyuanVideo, and what Kandinsky 5 has of it."""
