"""Is a field fit to judge? The measures of docs/embedding.md with numpy alone, for both programs.

The limits stand in the model's manifest, under ``calibration.quality``.
"""

import numpy as np

REASONS = {
    "max_domain_distance": "out_of_domain",
    "min_cell_fraction": "too_few_cells",
    "min_cells": "too_few_cells",
    "min_focus": "out_of_focus",
    "min_brightness": "too_dark",
    "max_black": "too_dark",
    "max_clipped": "too_bright",
    "min_stain": "wrong_stain",
    "max_stain": "wrong_stain",
    "min_cell_blue": "wrong_stain",
    "max_cell_blue": "wrong_stain",
    "min_red_cell_tint": "wrong_stain",
    "max_red_cell_tint": "wrong_stain",
    "max_cast": "colour_cast",
}


def background(small):
    """Red, green, blue of the empty glass: mean of the 4x4 blocks whose darkest channel is high."""
    blocks = small.reshape(56, 4, 56, 4, 3).sum((1, 3), dtype=np.int64).reshape(-1, 3)
    light = blocks[blocks.min(1) >= np.sort(blocks.min(1))[-940]]  # 940: 30 % of 3136 blocks
    return (2 * light.sum(0) + len(light)) // (2 * len(light)) / 16


def focus(small, green):
    """Variance of green's Laplacian over the squared green of the background, times 10000."""
    g = small[:, :, 1].astype(float)
    edges = g[:-2, 1:-1] + g[2:, 1:-1] + g[1:-1, :-2] + g[1:-1, 2:] - 4 * g[1:-1, 1:-1]
    return 10_000 * edges.var() / green**2


def count_cells(mask, smallest=64):
    """8-connected pieces of the mask with at least `smallest` pixels."""
    label = np.arange(1, mask.size + 1).reshape(mask.shape) * (mask > 0)
    before = None
    while before is None or (label != before).any():
        before, wide = label, np.pad(label, 1)
        rows = np.maximum(np.maximum(wide[:-2], wide[1:-1]), wide[2:])
        label = np.maximum(np.maximum(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:]) * (mask > 0)
    return int((np.bincount(label.ravel())[1:] >= smallest).sum())


def measure(small, mask):
    """Name -> number for a squashed field (224, 224, 3) and its mask; absent is not measurable."""
    point = background(small)
    glass = np.maximum(point, 1)
    found = {
        "focus": round(focus(small, glass[1]), 4),
        "cell_fraction": round(float((mask > 0).mean()), 6),
        "cells": count_cells(mask),
        "brightness": round(float(point.mean()), 4),
        "clipped": round(float((small == 255).all(2).mean()), 6),
        "black": round(float((small < 30).all(2).mean()), 6),
        "cast": round(float(glass.max() / glass.min()) - 1, 4),
    }
    if mask.any():
        red, green, blue = small[mask > 0].mean(0) / glass
        found |= {"stain": round(red + blue - 2 * green, 4), "cell_blue": round(blue, 4)}
    rest = ~(small >= np.ceil(0.9 * glass)).all(2) & (mask == 0)
    if rest.mean() >= 0.01:
        red, _, blue = small[rest].mean(0) / glass
        found["red_cell_tint"] = round(red - blue, 4)
    return found


def reasons(small, mask, distance, calibration):
    """Why a field must not be judged, in the order of the contract; empty if it may be."""
    measured = measure(small, mask) | {"domain_distance": round(float(distance), 6)}
    limits = dict(calibration["quality"])
    if calibration["domain_threshold"] is not None:
        limits["max_domain_distance"] = calibration["domain_threshold"]
    beyond = set()
    for name in limits.keys() & REASONS.keys():  # a limit that is unknown here is not applied
        side, _, what = name.partition("_")
        value = measured.get(what, limits[name])  # not measurable: no limit
        if value < limits[name] if side == "min" else value > limits[name]:
            beyond.add(REASONS[name])
    return [reason for reason in dict.fromkeys(REASONS.values()) if reason in beyond]
