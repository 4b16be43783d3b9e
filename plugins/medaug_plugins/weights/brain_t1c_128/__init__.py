"""A boxgan of brain tumours in contrast-enhanced MR, 128×128: card.json says what it is."""
