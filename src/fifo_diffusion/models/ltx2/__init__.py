"""LTX-2, without sound."""
