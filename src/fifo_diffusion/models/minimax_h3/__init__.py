"""MiniMax-H3, which diffusers has as a modular pipeline only."""
