"""Who gets which address: pools, blocks and addresses. Pure."""
