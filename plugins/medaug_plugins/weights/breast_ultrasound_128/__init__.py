"""A boxgan of breast ultrasound with benign and malignant lesions, 128×128: card.json says what it is."""
