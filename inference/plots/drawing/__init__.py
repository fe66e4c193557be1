"""What every picture shares: what it is drawn from, colours and dashes, axes, figures, parts that may fail."""
