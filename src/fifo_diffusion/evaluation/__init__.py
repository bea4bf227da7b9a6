"""What is measured: the checker of the toybox world, smoothness, flicker, drift, and the error of diagonal denoising."""
