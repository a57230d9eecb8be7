#!/bin/bash
# Runs once, at the first start of a machine, as root. Words between at signs are filled in by game_servers.py; none is secret.
set -euo pipefail

# The rights of a new role take a moment to arrive.
patiently() {
    for _ in {1..60}; do
        "$@" && return
        sleep 5
    done
    echo "gave up: $*" >&2
    exit 1
}

install -d -m 700 /etc/game
release=$(mktemp)
patiently aws s3 cp --no-progress --region '@REGION@' 's3://@BUCKET@/@OBJECT@' "$release"
echo "@DIGEST@  $release" | sha256sum --check --quiet
tar --extract --gzip --no-same-owner --preserve-permissions --directory / --file "$release"
rm "$release"

# Readable by root only, from the first byte on.
install -m 600 /dev/null /etc/game/server.key
get_key() {
    aws ssm get-parameter --region '@REGION@' --name '@KEY_PARAMETER@' --with-decryption \
        --query Parameter.Value --output text >/etc/game/server.key
}
patiently get_key

cat >/etc/game/game-server.env <<'END'
BACKEND_URL=@BACKEND_URL@
END
echo 'GAME_HOST_CLOUD=aws' >/etc/game/cloud.env

/opt/game-host/game-host.py start @PORTS@
