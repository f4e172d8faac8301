"""Speed and memory, told as ratios against a named reference in the same run (extra ``train``)."""
