"""Leave the machine's network: only processes of this run can be reached."""

import ctypes
import errno
import fcntl
import os
import socket
import struct
from pathlib import Path

# linux/sched.h; os.unshare comes with Python 3.12 only
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
# linux/sockios.h, linux/if.h; netdevice(7)
SIOCSIFFLAGS = 0x8914
IFF_UP = 0x1
#: of RFC 5737: never in use
ELSEWHERE = ("192.0.2.1", 9)
_libc = ctypes.CDLL(None, use_errno=True)


def leave() -> bool:
    """Move this process, and its children to come, to a network of its own.

    That network has a loopback interface and nothing else. Needs root, or the right to
    make user namespaces.

    :return: ``False``, with nothing changed, where the kernel refuses that
    """
    if not permitted():
        return False
    _leave()
    return True


def permitted() -> bool:
    """Tell whether :func:`leave` can do its work, by trying in a child."""
    child = os.fork()
    if child == 0:
        try:
            _leave()
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def can_leave_the_machine() -> bool:
    """Tell whether the kernel would send packets elsewhere; none is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(ELSEWHERE)  # of a datagram socket: asks for a route only
        except OSError as error:
            if error.errno != errno.ENETUNREACH:
                raise
            return False
    return True


def _leave():
    user, group = os.geteuid(), os.getegid()
    if user == 0:
        _unshare(CLONE_NEWNET)
    else:
        _unshare(CLONE_NEWUSER | CLONE_NEWNET)
        # remain who we are; user_namespaces(7)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))


def _unshare(flags):
    if _libc.unshare(flags):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
