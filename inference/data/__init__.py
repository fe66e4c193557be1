"""What a user hands in, checked and made the arguments of a model, once."""
