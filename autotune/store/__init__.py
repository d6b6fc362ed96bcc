"""Content-addressed artifacts and the append-only journal."""
