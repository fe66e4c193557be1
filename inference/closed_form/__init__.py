"""EM and CAVI on mixtures, and mean field on a correlated Gaussian: every step is a formula."""
