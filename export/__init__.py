"""From a run to model files that are proven against it (extra ``export``)."""
