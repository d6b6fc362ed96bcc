"""A configuration turned into a chain of stages and run as a memoised graph of Ray tasks."""
