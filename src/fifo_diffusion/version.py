"""The version of this program, for everything that says with what a file was made."""

__version__ = "0.1.0"
