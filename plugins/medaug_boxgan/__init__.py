"""GAN conditioned on boxes for small data and little time."""
