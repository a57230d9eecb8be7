#!/usr/bin/env python3
"""Packs an exported dedicated server and everything that starts it into one archive, for machines of a cloud.

    release.py EXPORT_FOLDER ARCHIVE.tar.gz    prints the SHA-256 of the archive

The archive is unpacked into / by root. The same files make the same bytes: its hash tells whether something has changed.
"""

import gzip
import hashlib
import io
import sys
import tarfile
from pathlib import Path

DEPLOY = Path(__file__).resolve().parent.parent
PROGRAM = "server.x86_64"
# Where it goes, from where, and whether it is a program.
PARTS = [
    ("opt/game-host/game-host.py", "cloud/game-host.py", True),
    ("etc/systemd/system/game-host-address.service", "cloud/game-host-address.service", False),
    ("etc/systemd/system/game-host-watch.service", "cloud/game-host-watch.service", False),
    ("etc/systemd/system/game-server@.service.d/cloud.conf", "cloud/game-server-cloud.conf", False),
    ("etc/systemd/system/game-server@.service", "systemd/game-server@.service", False),
    ("etc/systemd/system/game-servers.target", "systemd/game-servers.target", False),
]


def pack(export):
    """The bytes of the archive."""
    export = Path(export)
    if not (export / PROGRAM).is_file():
        raise FileNotFoundError(f"{export / PROGRAM}: export the dedicated server under this name first")
    if not any(export.glob("*.so")):
        raise FileNotFoundError(f"{export}: the addon's library (*.so) is missing beside {PROGRAM}")
    files = [(name, DEPLOY / source, program) for name, source, program in PARTS]
    for path in export.rglob("*"):
        if path.is_file():
            name = path.relative_to(export).as_posix()
            files.append((f"opt/game/{name}", path, name == PROGRAM))
    packed = io.BytesIO()
    # No times and no owners, and always in the same order.
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as zipped:
        with tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for name, path, program in sorted(files):
                entry = tarfile.TarInfo(name)
                entry.size = path.stat().st_size
                entry.mode = 0o755 if program else 0o644
                with path.open("rb") as file:
                    archive.addfile(entry, file)
    return packed.getvalue()


def main(arguments):
    if len(arguments) != 2:
        sys.exit(__doc__)
    try:
        content = pack(arguments[0])
        Path(arguments[1]).write_bytes(content)
    except OSError as error:
        sys.exit(str(error))
    print(hashlib.sha256(content).hexdigest())


if __name__ == "__main__":
    main(sys.argv[1:])
