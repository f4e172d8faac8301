"""The command line: one module per verb, and a table of verbs in ``main``."""
