"""The plugins that come with medaug, registered by entry points as anybody's are."""
