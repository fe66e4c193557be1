"""What the Gaussian mixtures share: covariances, distributions, moments, sufficient statistics, units."""
