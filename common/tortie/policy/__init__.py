"""What policies mean. Pure: no I/O, no clock, the same answer for the same objects.

Users' objects become one normal form (`tortie.api.compiled`), and everything else knows only that:

- `convert.convert(policy or profile) -> Conversion(spec, errors, ignored, provisional)`: every kind of policy, Calico's
  staged ones and Kubernetes' two included. It never raises: what is not understood fails closed rule by rule, keeps its
  index, and is an error that names field and value. `convert.profile_of_namespace`, `profile_of_service_account`,
  `network_set` and `service_set` make the rest of what is compiled. All without stamp; sets whole, not in chunks.
- `convert.ignored(document)` and `convert.IGNORED`: fields that are accepted and have no effect.
- `labels.of_pod`, `of_workload`, `of_host`, `of_network_set`: the effective labels that selectors are matched against.
- `cluster.tier_order` and `cluster.policy_order`: sort keys; `cluster.applies_at`: which policies count where.

The reference evaluator judges flows on the normal form. It is the oracle of every dataplane:

- `build.records(documents)`: objects from parsed YAML or JSON; `build.build(objects) -> (Cluster, findings)`: from
  files and from what watches delivered alike.
- `evaluate.evaluate(cluster, flow) -> Verdict`: a `flows.Flow` as FLOWS.jsonl has it (decode it with msgspec), judged
  on both sides, each with its trace of `judge.Step`. Raises `flows.FlowError`, whose message names field and value.
- Below it, for whoever has a packet and an endpoint in hand: `judge.by_policies`, `judge.by_profiles`, `match.matches`.
"""
