"""What is known of one camera on one microscope: its white field, its gains, its controls.

The lamp never lights a field evenly, and no camera sees it as white. A profile is taken from an
empty field (a clean part of the slide without cells). It holds the brightness of that field on a
coarse grid, per channel; a field is corrected by dividing by it, which evens the light and makes
empty glass (240, 240, 240), the value that ``imaging.white_balance`` aims at too. All arithmetic
is on whole numbers.

Pixels of most cameras are not linear in light (gamma). Dividing them is exact for the white it was
taken from and an approximation for what is darker.
"""

from allsub_edge.camera_profile.drift import DriftWatch, drift
from allsub_edge.camera_profile.light_grid import GRID
from allsub_edge.camera_profile.profile import SCHEMA, CameraProfile
from allsub_edge.camera_profile.white_field import FRAMES, measure_profile

__all__ = ["FRAMES", "GRID", "SCHEMA", "CameraProfile", "DriftWatch", "drift", "measure_profile"]
