"""What policies mean: users' objects to the normal form, and the reference evaluator. No I/O."""
