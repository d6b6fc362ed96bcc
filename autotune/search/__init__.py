"""The driver: what to try next, when to end a trial early, when to stop."""
