"""A boxgan of lung nodules in CT, 32×32×32: card.json says what it is."""
