"""Wan 2.1, Wan 2.2 and SkyReels-V2."""
