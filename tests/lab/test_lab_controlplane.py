"""The control plane that everything else runs against."""

from __future__ import annotations

import json

import pytest

from tortie.lab.lab import Lab
from tortie.lab.machine import MachineError

POLICY = """
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: no-forbidden-config}
spec:
  matchConstraints:
    resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}]
  validations: [{expression: "object.metadata.name != 'forbidden'", message: "that name is forbidden"}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: no-forbidden-config}
spec: {policyName: no-forbidden-config, validationActions: [Deny]}
"""


async def test_services_are_dual_stack(controlplane: Lab) -> None:
    await controlplane.kubectl(
        "create",
        "-f",
        "-",
        text="""
apiVersion: v1
kind: Service
metadata: {name: both}
spec: {ipFamilyPolicy: RequireDualStack, ports: [{port: 80}]}
""",
    )
    v4, v6 = json.loads(await controlplane.kubectl("get", "service", "both", "-o", "json"))["spec"]["clusterIPs"]
    assert v4.startswith("10.96.")
    assert v6.startswith("fd00:10:96::")


async def test_tokens_carry_the_rights_of_their_account_and_no_more(controlplane: Lab) -> None:
    await controlplane.kubectl("create", "serviceaccount", "reader")
    await controlplane.kubectl("create", "rolebinding", "reader", "--role=reader", "--serviceaccount=default:reader")
    await controlplane.kubectl("create", "role", "reader", "--verb=list", "--resource=pods")
    token = (await controlplane.kubectl("create", "token", "reader")).strip()
    # The administrator's kubeconfig has a client certificate, which would win over --token.
    anonymous = ["--kubeconfig=/dev/null", f"--server={controlplane.server}", f"--token={token}"]
    anonymous.append(f"--certificate-authority={controlplane.directory}/pki/ca.crt")
    await controlplane.kubectl("get", "pods", *anonymous)
    with pytest.raises(MachineError, match="cannot list resource"):
        await controlplane.kubectl("get", "secrets", *anonymous)


async def test_validating_admission_policies_are_in_force(controlplane: Lab) -> None:
    await controlplane.kubectl("apply", "-f", "-", text=POLICY)
    message = ""
    for _ in range(100):  # a policy is compiled a moment after it was accepted
        try:
            await controlplane.kubectl("create", "configmap", "forbidden")
        except MachineError as error:
            message = str(error)
            break
        await controlplane.kubectl("delete", "configmap", "forbidden")
    assert "that name is forbidden" in message
    await controlplane.kubectl("create", "configmap", "allowed")


async def test_what_was_written_survives_kill_of_etcd_and_api_server(controlplane: Lab) -> None:
    await controlplane.kubectl("create", "namespace", "survivor")
    for component in ("etcd", "apiserver"):
        await controlplane.restart(component, grace=0)
    await controlplane.wait_ready()
    assert "survivor" in await controlplane.kubectl("get", "namespace", "survivor", "-o", "name")
