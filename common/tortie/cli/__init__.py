"""`tortie` and `kubectl tortie`: one file per command."""
