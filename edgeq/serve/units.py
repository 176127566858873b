"""Units of systemd for a server: one that runs it, and one for its socket, which outlives it."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Sequence

SOCKET = """\
# /etc/systemd/system/edgeq-serve.socket
[Unit]
Description=edgeq: where a language model is asked

[Socket]
ListenStream={stream}
SocketMode=0660

[Install]
WantedBy=sockets.target
"""

SERVICE = """\
# /etc/systemd/system/edgeq-serve.service
[Unit]
Description=edgeq: a language model over HTTP
Requires=edgeq-serve.socket
StartLimitIntervalSec=300
StartLimitBurst=5

[Service]
ExecStart={command}
ExecReload=/bin/kill -HUP $MAINPID
Restart=on-failure
RestartSec=1
TimeoutStopSec={stop_s}

# Who it is, and what it may write: its cache, with compiled kernels.
DynamicUser=yes
CacheDirectory=edgeq
Environment=XDG_CACHE_HOME=/var/cache/edgeq

# What it has no use for: all connections come through the socket.
NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
UMask=0077
"""


def units(models: Sequence[str], words: Sequence[str], host: str, port: int, drain_s: float) -> str:
    """Both units. words: of the command line, but for the models and where it listens."""
    paths = [os.path.abspath(model) if os.path.exists(model) else model for model in models]
    program = shutil.which("edgeq") or "edgeq"
    line = shlex.join([program, "serve", *paths, *words]).replace("%", "%%").replace("$", "$$")
    stream = host.removeprefix("unix:") if host.startswith("unix:") else f"{bracketed(host)}:{port}"
    return SOCKET.format(stream=stream) + "\n" + SERVICE.format(command=line, stop_s=int(drain_s) + 5)


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
