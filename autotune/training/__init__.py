"""The one shared training loop, its losses, and networks on disk."""
