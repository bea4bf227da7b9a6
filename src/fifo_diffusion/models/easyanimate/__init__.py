"""EasyAnimate."""
