"""What families of base models share."""
