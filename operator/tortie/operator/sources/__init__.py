"""Where the world comes from: informers for kinds of high count, kopf for kinds of low count."""
