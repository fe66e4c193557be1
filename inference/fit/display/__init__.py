"""How a Fit shows itself: the figure that matters, and HTML."""
