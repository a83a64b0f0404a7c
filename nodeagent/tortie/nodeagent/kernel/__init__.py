"""One reconciler per kernel subsystem, all of the shape in `reconcile`: read, diff, apply, and a mark of ownership."""
