"""How to reach an API server and who we are there, as kubernetes_asyncio reads it from a kubeconfig or from a pod."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import yaml
from kubernetes_asyncio import config
from kubernetes_asyncio.client import Configuration
from kubernetes_asyncio.config.incluster_config import SERVICE_TOKEN_FILENAME


class Credentials:
    """Server, TLS and the Authorization header.

    A token file is read again when it has changed, because bound tokens rotate (KEP-1205); a token that an exec
    plugin gave is asked for once.
    """

    def __init__(self, configuration: Configuration, token_file: Path | None) -> None:
        self._configuration = configuration
        self._token_file = token_file
        self._read: tuple[int, int, int] | None = None
        """Inode, time and size of the token file when it was last read."""
        self._token = ""
        self.server: str = configuration.host or ""
        self.server_name: str | None = configuration.tls_server_name
        self.proxy: str | None = configuration.proxy

    @classmethod
    async def load(cls, kubeconfig: Path | None) -> Credentials:
        """Of the kubeconfig's current context; None: of the service account of this pod.

        Raises config.ConfigException or OSError with the reason.
        """
        configuration = Configuration()
        if kubeconfig is None:
            config.load_incluster_config(configuration)  # type: ignore[no-untyped-call]
            return cls(configuration, Path(SERVICE_TOKEN_FILENAME))
        text = kubeconfig.read_text()
        await config.load_kube_config(str(kubeconfig), client_configuration=configuration, persist_config=False)
        return cls(configuration, _token_file(yaml.safe_load(text), kubeconfig.parent))

    async def authorization(self) -> str | None:
        """Value of the Authorization header; None where a client certificate says who we are."""
        if self._token_file is None:
            value: str | None = await self._configuration.get_api_key_with_prefix("BearerToken")
            return value
        found = self._token_file.stat()
        state = (found.st_ino, found.st_mtime_ns, found.st_size)
        if state != self._read:
            self._token = self._token_file.read_text().strip() or self._token
            self._read = state
        return f"Bearer {self._token}"

    def tls(self) -> ssl.SSLContext:
        """As lenient as Go: Python 3.13 refuses authorities without RFC 5280's key identifiers, which are common."""
        configuration = self._configuration
        context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if configuration.cert_file:
            context.load_cert_chain(configuration.cert_file, configuration.key_file)
        if not configuration.verify_ssl:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def _token_file(kubeconfig: dict[str, Any], directory: Path) -> Path | None:
    """The current user's token file, which the library reads only once. `token` goes before it, as there."""
    contexts = {each["name"]: each["context"] for each in kubeconfig["contexts"]}
    user_name = contexts[kubeconfig["current-context"]].get("user")
    users = {each["name"]: each.get("user") or {} for each in kubeconfig.get("users") or ()}
    user = users.get(user_name, {})
    return None if "token" in user or "tokenFile" not in user else directory / str(user["tokenFile"])
