"""Rooms of `captum.attr`; import the public names from there."""
