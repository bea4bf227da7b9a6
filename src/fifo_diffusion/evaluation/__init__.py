"""What is measured: a checker of toybox videos, smoothness, flicker, drift, and the error of diagonal denoising."""
