"""From the world to what should be published. Pure functions: the result depends on the world of now, never on how it
came about."""
