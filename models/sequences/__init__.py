"""Models of strings: their characters as codes, networks over them, and the variational auto-encoder of strings."""
