"""What a person reads: pages that need no network, no script and no other file."""
