"""The one-file model: its manifest, reading it, writing it, and replaying its golden cases."""
