"""Models of every kind that Tortie reads or writes, Calico's selectors, and the resolution of settings: no I/O."""
