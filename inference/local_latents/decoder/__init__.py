"""p(x | z) of rows whose latents are their own: its means, and rows filled in by it."""
