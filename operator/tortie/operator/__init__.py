"""The operator: compiles the cluster once, for all nodes.

`sources` put what changed into the `world`; `compile` and `ipam` are pure and say what should be published; `publish`
writes it in an order that no reader can misread; `blocks` and `status` write the rest.
"""
