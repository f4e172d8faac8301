"""Pixels only: decoding, exact HSV, white balance, segmentation recipes, rendered test fields.

Every step here is integer arithmetic, or float32 arithmetic in which every value is exactly
representable, so that the same field gives the same pixels on x86-64, on ARM64 and inside the
exported model file. Import the modules themselves; this package imports none of them.
"""
