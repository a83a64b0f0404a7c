from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

class Type:
    BOOL: ClassVar[Type]
    DYN: ClassVar[Type]
    ERROR: ClassVar[Type]
    INT: ClassVar[Type]
    STRING: ClassVar[Type]

class CelExtensionBase: ...

class Overload:
    def __init__(
        self, id: str, return_type: Type, parameters: Sequence[Type], is_member: bool, impl: Callable[..., Any]
    ) -> None: ...

class FunctionDecl:
    def __init__(self, name: str, overloads: Sequence[Overload]) -> None: ...

class Value:
    def plain_value(self) -> Any: ...
    def type(self) -> Type: ...

class Expression:
    def eval(self, *, data: Mapping[str, Any]) -> Value: ...

class Env:
    def compile(self, expression: str) -> Expression: ...

def NewEnv(
    *, variables: Mapping[str, Type], functions: Sequence[FunctionDecl], extensions: Sequence[CelExtensionBase]
) -> Env: ...
