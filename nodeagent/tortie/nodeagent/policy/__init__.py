"""What this node's policy programs go by, from adopted objects to bytes. Pure: docs/design/policy-in-the-kernel.md."""
