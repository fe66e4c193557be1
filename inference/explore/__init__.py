"""Guides tried one after the other in a notebook, held to a reference that is sampled once."""
