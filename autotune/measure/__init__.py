"""The clock and the statistics behind every number."""
