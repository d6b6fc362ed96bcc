"""The commands people type: one file a verb."""
