"""GAN conditioned on bounding boxes with progressive growing (CPGGAN, Han et al. 2019)."""
