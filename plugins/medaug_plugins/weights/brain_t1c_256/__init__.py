"""A boxgan of brain tumours in contrast-enhanced MR, 256×256: card.json says what it is."""
