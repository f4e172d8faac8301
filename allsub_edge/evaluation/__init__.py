"""What a trained network or a model file is worth: measures, intervals, baselines, what breaks it.

For a workstation (extra ``train``); nothing that a device runs imports this package.
"""
