"""The 3D U-Net of ModelScope, ZeroScope and toybox."""
