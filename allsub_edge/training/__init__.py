"""The training core: from folders of labelled fields to a run folder (extra ``train``).

Nothing that a device runs imports this package.
"""
