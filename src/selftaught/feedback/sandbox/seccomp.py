"""The system calls that a sandboxed program may not make, as a seccomp filter.

Namespaces already hide files, processes and the network. The filter takes away what would reach the kernel's less
trodden parts, or hold memory that no limit counts: new processes and namespaces, mounts, sockets, tracing, keys, shared
memory, and every call that is newer than the ones known here. Threads are allowed: the limit on memory bounds them.
"""

from __future__ import annotations

import errno
import platform
import struct

_DENIED = {  # name -> number on x86_64, on aarch64 (None where there is no such call)
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "fork": (57, None), "vfork": (58, None), "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40),
    "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "swapon": (167, 224), "swapoff": (168, 225),
    "socket": (41, 198), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201), "accept": (43, 202),
    "accept4": (288, 242), "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142),
    "iopl": (172, None), "ioperm": (173, None), "settimeofday": (164, 170), "clock_settime": (227, 112),
    "clock_adjtime": (305, 266), "adjtimex": (159, 171), "sethostname": (170, 161), "setdomainname": (171, 162),
    "acct": (163, 89), "quotactl": (179, 60), "syslog": (103, 116), "personality": (135, 92),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "fanotify_init": (300, 262),
    "lookup_dcookie": (212, 18), "mbind": (237, 235), "migrate_pages": (256, 238), "move_pages": (279, 239),
    "set_mempolicy": (238, 237), "memfd_create": (319, 279), "shmget": (29, 194), "shmat": (30, 196),
    "shmctl": (31, 195), "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180), "seccomp": (317, 277),
    "modify_ldt": (154, None), "vhangup": (153, 58), "nfsservctl": (180, 42), "uselib": (134, None),
    "ustat": (136, None), "sysfs": (139, None), "_sysctl": (156, None), "vmsplice": (278, 75), "mlock": (149, 228),
    "mlock2": (325, 284), "mlockall": (151, 230), "remap_file_pages": (216, 234),
}  # fmt: skip
_NEWER = 424  # from here on numbers are the same everywhere
_ALLOWED_NEWER = (436, 437, 439, 441, 449)  # close_range, openat2, faccessat2, epoll_pwait2, futex_waitv
_ARCHITECTURES = {"x86_64": (0, 0xC000003E, 56), "aarch64": (1, 0xC00000B7, 220)}  # column, audit code, clone
_CLONE_THREAD, _X32 = 0x10000, 0x40000000
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data, little-endian


def supported(machine: str = "") -> bool:
    """Whether there is a filter for a processor, by default this one."""
    return (machine or platform.machine()) in _ARCHITECTURES


def denied_calls(machine: str = "") -> dict[str, int]:
    """The calls that are refused by name, with their numbers."""
    column = _ARCHITECTURES[machine or platform.machine()][0]
    return {name: number for name, numbers in _DENIED.items() if (number := numbers[column]) is not None}


def seccomp_filter(machine: str = "") -> bytes:
    """The filter as the classic BPF program that `bwrap --seccomp` reads.

    A refused call fails with EPERM; one that is newer than those known here with ENOSYS, so that the C library falls
    back on an older one. A call by another architecture's convention ends the program.
    """
    _, architecture, clone = _ARCHITECTURES[machine or platform.machine()]
    refused = _ERROR | errno.EPERM
    program = [
        (_LOAD, 0, 0, _ARCHITECTURE), (_JUMP_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER), (_JUMP_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _KILL),
    ]  # fmt: skip
    for number in denied_calls(machine).values():
        program += [(_JUMP_EQUAL, 0, 1, number), (_RETURN, 0, 0, refused)]
    for number in _ALLOWED_NEWER:
        program += [(_JUMP_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    program += [
        (_JUMP_AT_LEAST, 0, 1, _NEWER), (_RETURN, 0, 0, _ERROR | errno.ENOSYS),
        (_JUMP_EQUAL, 1, 0, clone), (_RETURN, 0, 0, _ALLOW),
        (_LOAD, 0, 0, _FIRST_ARGUMENT), (_JUMP_BITS, 1, 0, _CLONE_THREAD), (_RETURN, 0, 0, refused),
        (_RETURN, 0, 0, _ALLOW),
    ]  # fmt: skip
    return b"".join(struct.pack("=HBBI", *step) for step in program)
