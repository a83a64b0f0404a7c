"""Requests to an API server: slim records in and out, encoded and decoded by msgspec, over one aiohttp session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Generic, Protocol, TypeVar

import aiohttp
import msgspec

from tortie.api.meta import Metadata, Record
from tortie.kube.credentials import Credentials
from tortie.kube.errors import AlreadyExists, ApiError, Conflict, Expired, NotFound, refusal

__all__ = ["AlreadyExists", "ApiError", "Client", "Conflict", "Expired", "Listing", "NotFound", "Page", "Resource"]

T = TypeVar("T")

REQUEST_TIMEOUT = 10.0
"""Seconds for a request from the first byte to the last; also for the answer that opens a watch."""
SILENCE = 150.0
"""Seconds after which a silent watch counts as dead: bookmarks come about once a minute (KEP-956)."""
PAGE = 500
"""Objects a page, as client-go has it: a page of pods is a few megabytes."""


class HasMetadata(Protocol):
    @property
    def metadata(self) -> Metadata: ...


@dataclass(frozen=True)
class Resource:
    """One kind as the API server serves it; `group` is empty for core/v1."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool

    def collection(self, namespace: str = "") -> str:
        """URL path of all objects, or of one namespace's."""
        if namespace and not self.namespaced:
            raise ValueError(f"{self.kind} is cluster-scoped: namespace {namespace!r} has no meaning")
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        return f"{root}/namespaces/{namespace}/{self.plural}" if namespace else f"{root}/{self.plural}"

    def item(self, name: str, namespace: str = "", subresource: str = "") -> str:
        """URL path of one object or of a subresource of it."""
        if not name or (self.namespaced and not namespace):
            raise ValueError(f"{self.kind} with name {name!r}, namespace {namespace!r}: one is missing")
        path = f"{self.collection(namespace)}/{name}"
        return f"{path}/{subresource}" if subresource else path


@dataclass(frozen=True)
class Listing(Generic[T]):
    """A complete list and the resourceVersion that it is of."""

    items: Sequence[T]
    version: int


class ListMetadata(Record):
    resource_version: Annotated[str, msgspec.Meta(pattern="^[0-9]+$")]
    proceed: str = msgspec.field(default="", name="continue")


class Page(Record):
    """One page of a list with its items still encoded."""

    metadata: ListMetadata
    items: tuple[msgspec.Raw, ...] | None = None
    """Null is how Go writes an empty list that was never made."""

    @property
    def version(self) -> int:
        return int(self.metadata.resource_version)


class Client:
    """Every method raises ApiError for whatever keeps it from success, a request after REQUEST_TIMEOUT at the latest.

    Nothing is tried again here: only the caller knows whether the reason for a write still holds.
    """

    def __init__(self, credentials: Credentials, user_agent: str) -> None:
        self._credentials = credentials
        # No limit on connections: each watch holds one for ever, and callers bound what they have in flight.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=credentials.tls(), limit=0),
            headers={"User-Agent": user_agent, "Accept": "application/json"},
            read_bufsize=2**18,
        )

    @classmethod
    async def connect(cls, kubeconfig: Path | None, user_agent: str) -> Client:
        """By the kubeconfig's current context; None: as this pod's service account. Sends nothing yet."""
        return cls(await Credentials.load(kubeconfig), user_agent)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def get(self, resource: Resource, name: str, *, namespace: str = "", type: type[T]) -> T:
        return _decoded(await self._request("GET", resource.item(name, namespace)), type)

    async def list(
        self, resource: Resource, *, namespace: str = "", fields: str = "", labels: str = "", type: type[T]
    ) -> Listing[T]:
        """All pages, as etcd's majority has them now."""
        items: list[T] = []
        version = 0
        async for page in self.pages(resource, namespace=namespace, fields=fields, labels=labels):
            items += [_decoded(item, type) for item in page.items or ()]
            version = page.version
        return Listing(items, version)

    async def create(
        self, resource: Resource, obj: Record | Mapping[str, Any], *, namespace: str = "", type: type[T]
    ) -> T:
        if resource.namespaced and not namespace:
            raise ValueError(f"{resource.kind} to be created: namespace is missing")
        return _decoded(await self._request("POST", resource.collection(namespace), body=obj), type)

    async def replace(self, resource: Resource, obj: HasMetadata, *, subresource: str = "", type: type[T]) -> T:
        """Write all of `obj`; Conflict unless it is still of `obj.metadata.resource_version`.

        What its record does not hold is gone afterwards, so others' objects are to be patched.
        """
        path = resource.item(obj.metadata.name, obj.metadata.namespace, subresource)
        return _decoded(await self._request("PUT", path, body=obj), type)

    async def patch(
        self,
        resource: Resource,
        name: str,
        body: Mapping[str, Any] | Sequence[Any],
        *,
        namespace: str = "",
        subresource: str = "",
        type: type[T],
        content_type: str = "application/merge-patch+json",
    ) -> T:
        path = resource.item(name, namespace, subresource)
        return _decoded(await self._request("PATCH", path, body=body, content_type=content_type), type)

    async def delete(
        self,
        resource: Resource,
        name: str,
        *,
        namespace: str = "",
        uid: str = "",
        version: str = "",
        grace: int | None = None,
    ) -> None:
        """Conflict unless the object is still of that `uid` and resourceVersion, where given.

        `grace`: seconds that a pod has to end instead of its own; with 0 its object goes at once, as kubelets ask.
        """
        given = {"uid": uid, "resourceVersion": version}
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {key: value for key, value in given.items() if value},
            **({} if grace is None else {"gracePeriodSeconds": grace}),
        }
        await self._request("DELETE", resource.item(name, namespace), body=options)

    async def pages(
        self, resource: Resource, *, namespace: str = "", fields: str = "", labels: str = ""
    ) -> AsyncIterator[Page]:
        """A consistent list, page by page. Expired if it takes so long that etcd compacts what it is of (5 minutes)."""
        proceed = ""
        while True:
            page = await self.page(resource, namespace=namespace, fields=fields, labels=labels, proceed=proceed)
            yield page
            proceed = page.metadata.proceed
            if not proceed:
                return

    async def page(
        self,
        resource: Resource,
        *,
        namespace: str = "",
        fields: str = "",
        labels: str = "",
        limit: int = PAGE,
        proceed: str = "",
    ) -> Page:
        """The first page, or the one after that which said `proceed`.

        A first page is of what etcd's majority has: its version is never lower than one that anybody has seen.
        """
        query = {"limit": str(limit), "continue": proceed, "fieldSelector": fields, "labelSelector": labels}
        return _decoded(await self._request("GET", resource.collection(namespace), query=query), Page)

    @asynccontextmanager
    async def watch(
        self, resource: Resource, version: int, *, namespace: str = "", fields: str = "", labels: str = "", seconds: int
    ) -> AsyncIterator[AsyncIterator[Sequence[bytes]]]:
        """An open watch from `version` on: batches of complete lines, each a watch event in JSON.

        The API server ends it after `seconds`. ApiError when it cannot be opened, when it breaks (in the middle of a
        line, say, which is then dropped), and with reason Timeout when it says nothing for SILENCE.
        """
        query = {
            "watch": "true",
            "resourceVersion": str(version),
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
            "fieldSelector": fields,
            "labelSelector": labels,
        }
        timeout = aiohttp.ClientTimeout(total=None, sock_read=SILENCE)
        with _translated():
            async with asyncio.timeout(REQUEST_TIMEOUT):
                answer = await self._send("GET", resource.collection(namespace), timeout, query=query)
        try:
            yield _lines(answer)
        finally:
            answer.close()

    async def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> bytes:
        data = None if body is None else msgspec.json.encode(body)
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT)
        with _translated():
            answer = await self._send(method, path, timeout, query=query, data=data, content_type=content_type)
            async with answer:
                return await answer.read()

    async def _send(
        self,
        method: str,
        path: str,
        timeout: aiohttp.ClientTimeout,
        *,
        query: Mapping[str, str] | None = None,
        data: bytes | None = None,
        content_type: str = "",
    ) -> aiohttp.ClientResponse:
        """The answer, if it is a success, with its body still to be read."""
        headers = {"Content-Type": content_type} if data is not None else {}
        if authorization := await self._credentials.authorization():
            headers["Authorization"] = authorization
        answer = await self._session.request(
            method,
            self._credentials.server + path,
            params=query,
            data=data,
            headers=headers,
            timeout=timeout,
            proxy=self._credentials.proxy,
            server_hostname=self._credentials.server_name,
        )
        if answer.status >= 300:
            async with answer:
                raise refusal(answer.status, await answer.read())
        return answer


def _decoded(body: bytes | msgspec.Raw, type: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=type)
    except msgspec.DecodeError as error:
        raise ApiError(200, "Undecodable", f"{type.__name__}: {error}") from None


async def _lines(answer: aiohttp.ClientResponse) -> AsyncIterator[Sequence[bytes]]:
    """What arrives together is handed over together; a last line without its end is dropped."""
    rest = b""
    with _translated():
        async for chunk in answer.content.iter_any():
            *complete, rest = (rest + chunk).split(b"\n")
            if complete:
                yield complete


@contextmanager
def _translated() -> Iterator[None]:
    """aiohttp's and the operating system's errors as ours."""
    try:
        yield
    except TimeoutError as error:
        raise ApiError(0, "Timeout", str(error) or "no answer in time") from error
    except (aiohttp.ClientError, OSError) as error:
        raise ApiError(0, "Connection", str(error) or type(error).__name__) from error
