"""Ways to choose what to try next, one file each."""
