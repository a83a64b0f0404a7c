"""libbpf.so.1 (1.0 of Debian 12 and later) by ctypes: what we call of it, and its complaints as OSError.

Calls are made from one thread: what libbpf prints belongs to the call before.
"""

from __future__ import annotations

import ctypes as ct
import os
from collections.abc import Callable
from typing import Any

lib = ct.CDLL("libbpf.so.1", use_errno=True)
_libc = ct.CDLL(None)

_LOG = 1 << 20
"""Bytes of a complaint that are kept: a verifier's log, mostly."""
_said: list[str] = []


class OpenOptions(ct.Structure):
    """struct bpf_object_open_opts, as far as we set it."""

    _fields_ = [
        ("sz", ct.c_size_t),
        ("object_name", ct.c_char_p),
        ("relaxed_maps", ct.c_bool),
        ("pin_root_path", ct.c_char_p),
    ]


class TcHook(ct.Structure):
    _fields_ = [("sz", ct.c_size_t), ("ifindex", ct.c_int), ("attach_point", ct.c_int), ("parent", ct.c_uint32)]


class TcOptions(ct.Structure):
    _fields_ = [
        ("sz", ct.c_size_t),
        ("prog_fd", ct.c_int),
        ("flags", ct.c_uint32),
        ("prog_id", ct.c_uint32),
        ("handle", ct.c_uint32),
        ("priority", ct.c_uint32),
    ]


class TestRunOptions(ct.Structure):
    _fields_ = [
        ("sz", ct.c_size_t),
        ("data_in", ct.c_void_p),
        ("data_out", ct.c_void_p),
        ("data_size_in", ct.c_uint32),
        ("data_size_out", ct.c_uint32),
        ("ctx_in", ct.c_void_p),
        ("ctx_out", ct.c_void_p),
        ("ctx_size_in", ct.c_uint32),
        ("ctx_size_out", ct.c_uint32),
        ("retval", ct.c_uint32),
        ("repeat", ct.c_int),
        ("duration", ct.c_uint32),
        ("flags", ct.c_uint32),
        ("cpu", ct.c_uint32),
        ("batch_size", ct.c_uint32),
    ]


class ProgramInfo(ct.Structure):
    """struct bpf_prog_info up to the name; the kernel fills as much as there is room for."""

    _fields_ = [
        ("type", ct.c_uint32),
        ("id", ct.c_uint32),
        ("tag", ct.c_uint8 * 8),
        ("jited_prog_len", ct.c_uint32),
        ("xlated_prog_len", ct.c_uint32),
        ("jited_prog_insns", ct.c_uint64),
        ("xlated_prog_insns", ct.c_uint64),
        ("load_time", ct.c_uint64),
        ("created_by_uid", ct.c_uint32),
        ("nr_map_ids", ct.c_uint32),
        ("map_ids", ct.c_uint64),
        ("name", ct.c_char * 16),
    ]


class MapInfo(ct.Structure):
    """struct bpf_map_info up to the name."""

    _fields_ = [
        ("type", ct.c_uint32),
        ("id", ct.c_uint32),
        ("key_size", ct.c_uint32),
        ("value_size", ct.c_uint32),
        ("max_entries", ct.c_uint32),
        ("map_flags", ct.c_uint32),
        ("name", ct.c_char * 16),
    ]


_HANDLE = ct.c_void_p
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "bpf_object__open_mem": (_HANDLE, ct.c_char_p, ct.c_size_t, ct.POINTER(OpenOptions)),
    "bpf_object__load": (ct.c_int, _HANDLE),
    "bpf_object__close": (None, _HANDLE),
    "bpf_object__find_program_by_name": (_HANDLE, _HANDLE, ct.c_char_p),
    "bpf_program__pin": (ct.c_int, _HANDLE, ct.c_char_p),
    "bpf_obj_pin": (ct.c_int, ct.c_int, ct.c_char_p),
    "bpf_obj_get": (ct.c_int, ct.c_char_p),
    "bpf_obj_get_info_by_fd": (ct.c_int, ct.c_int, ct.c_void_p, ct.POINTER(ct.c_uint32)),
    "bpf_map_get_fd_by_id": (ct.c_int, ct.c_uint32),
    "bpf_tc_hook_create": (ct.c_int, ct.POINTER(TcHook)),
    "bpf_tc_attach": (ct.c_int, ct.POINTER(TcHook), ct.POINTER(TcOptions)),
    "bpf_tc_query": (ct.c_int, ct.POINTER(TcHook), ct.POINTER(TcOptions)),
    "bpf_prog_test_run_opts": (ct.c_int, ct.c_int, ct.POINTER(TestRunOptions)),
    "libbpf_num_possible_cpus": (ct.c_int,),
}
for _name, (_result, *_arguments) in _SIGNATURES.items():
    _function = getattr(lib, _name)
    _function.restype, _function.argtypes = _result, _arguments


def _heard(level: int, form: int, arguments: int) -> int:
    """libbpf_print_fn_t. A va_list is passed by reference on the machines that we run on."""
    if level == 0:  # LIBBPF_WARN
        text = ct.create_string_buffer(_LOG)
        _libc.vsnprintf(text, ct.c_size_t(_LOG), ct.c_void_p(form), ct.c_void_p(arguments))
        _said.extend(text.value.decode(errors="replace").splitlines())
    return 0


_listen = ct.CFUNCTYPE(ct.c_int, ct.c_int, ct.c_void_p, ct.c_void_p)(_heard)
lib.libbpf_set_print(_listen)


def reason() -> str:
    """Why the last call failed, in one line: the verifier's last words, else the first of libbpf."""
    for number, line in enumerate(_said):
        if line.startswith("processed ") and number:
            return _said[number - 1]
    return _said[0].removeprefix("libbpf: ") if _said else ""


def attempt(function: Callable[..., int | None], *arguments: Any) -> int:
    """What a libbpf function returns: what it is for, else -errno."""
    _said.clear()
    result = function(*arguments)
    return -ct.get_errno() if result is None else result


def call(what: str, function: Callable[..., int | None], *arguments: Any) -> int:
    """The same, but raises OSError, which says `what` failed, and why as far as libbpf knows."""
    result = attempt(function, *arguments)
    if result < 0:
        text = f"{what}: {os.strerror(-result)}"
        raise OSError(-result, f"{text} ({why})" if (why := reason()) else text)
    return result


def opened(path: os.PathLike[str]) -> int:
    """Descriptor of what is pinned there; the caller closes it. Raises FileNotFoundError and other OSErrors."""
    return call(f"opening {path}", lib.bpf_obj_get, os.fsencode(path))
