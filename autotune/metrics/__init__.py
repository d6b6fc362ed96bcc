"""Figures of merit, one file each."""
