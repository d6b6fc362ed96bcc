"""autotune inside other tools."""
