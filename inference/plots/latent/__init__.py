"""Pictures of rows with latents of their own: their codes, what codes decode to, rows made again and filled in."""
