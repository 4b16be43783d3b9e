"""Brain extraction by published networks, whose weights come from an installed distribution or from a path."""
