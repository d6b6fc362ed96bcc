"""Transformations of the network, one file each."""
