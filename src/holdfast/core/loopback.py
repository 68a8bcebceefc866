"""The loopback interface of a fresh network namespace (`unshare -rn`) is down; the server next door needs it."""

import fcntl
import socket
import struct

from holdfast.core.errors import ServerError

GET_FLAGS, SET_FLAGS, UP = 0x8913, 0x8914, 1  # SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP: netdevice(7)


def bring_loopback_up() -> None:
    """Set `lo` up where it is down; a namespace's owner may do so. Raises ServerError when it is not allowed."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            reply = fcntl.ioctl(any_socket, GET_FLAGS, struct.pack("16sh22x", b"lo", 0))
        except OSError:
            return  # no interface of that name here
        flags = struct.unpack_from("16sh", reply)[1]
        if flags & UP:
            return
        try:
            fcntl.ioctl(any_socket, SET_FLAGS, struct.pack("16sh22x", b"lo", flags | UP))
        except OSError as error:
            raise ServerError(
                f"the loopback interface is down and may not be set up: {error.strerror}",
                hint="as root: ip link set lo up",
            ) from None
